//! Measured round trips, read from a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use flate2::bufread::GzDecoder;

/// Rows of a matrix: ten thousand hosts are 400 MB of numbers.
pub const MAX_ROWS: usize = 10_000;

/// Round trips between all pairs of some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    ms: Vec<f32>,
}

/// Why a file is no matrix.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// An entry is no time.
    #[error("line {line}: {entry:?} is no time in milliseconds")]
    Entry {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        entry: String,
    },
    /// It is not square.
    #[error("{rows} rows, but {columns} columns in line {line}")]
    Shape {
        /// How many rows there are.
        rows: usize,
        /// How many columns this line has.
        columns: usize,
        /// Counted from 1.
        line: usize,
    },
    /// More than [`MAX_ROWS`], or none.
    #[error("a matrix has from 1 to {MAX_ROWS} rows")]
    Rows,
}

impl Matrix {
    /// Reads a file, which may be compressed by gzip.
    ///
    /// # Errors
    /// [`MatrixError`]
    pub fn open(path: &Path) -> Result<Self, MatrixError> {
        let mut file = BufReader::new(File::open(path)?);
        if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
            return Self::read(GzDecoder::new(file));
        }
        Self::read(file)
    }

    /// Reads one row a host, milliseconds of round trip parted by tabs or spaces.
    ///
    /// # Errors
    /// [`MatrixError`]
    pub fn read(text: impl Read) -> Result<Self, MatrixError> {
        let mut rows = Vec::new();
        for (at, line) in BufReader::new(text).lines().enumerate() {
            let entry = |entry: &str| match entry.parse::<f32>() {
                Ok(ms) if ms.is_finite() && ms >= 0.0 => Ok(ms),
                _ => Err(MatrixError::Entry { line: at + 1, entry: entry.into() }),
            };
            rows.push(line?.split_whitespace().map(entry).collect::<Result<Vec<_>, _>>()?);
            if rows.len() > MAX_ROWS {
                return Err(MatrixError::Rows);
            }
        }
        let count = rows.len();
        if count == 0 {
            return Err(MatrixError::Rows);
        }
        if let Some(line) = rows.iter().position(|row| row.len() != count) {
            let columns = rows[line].len();
            return Err(MatrixError::Shape { rows: count, columns, line: line + 1 });
        }
        Ok(Self { rows: count, ms: rows.concat() })
    }

    /// How many hosts it has.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The round trip between two hosts.
    #[must_use]
    pub fn rtt(&self, a: usize, b: usize) -> Duration {
        Duration::from_secs_f64(f64::from(self.ms[a * self.rows + b]) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn plain_and_compressed_are_the_same() {
        let text = "0\t1.5\n2.25\t0\n";
        let matrix = Matrix::read(text.as_bytes()).unwrap();
        assert_eq!(matrix.rows(), 2);
        assert_eq!(matrix.rtt(0, 1), Duration::from_micros(1_500));
        let path = std::env::temp_dir().join(format!("matrix-{}.gz", std::process::id()));
        let mut gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap();
        assert_eq!(Matrix::open(&path).unwrap(), matrix);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Matrix::read(text.as_bytes()).unwrap_err().to_string(), expect);
        };
        check("", "a matrix has from 1 to 10000 rows");
        check("0 1\n1 x\n", "line 2: \"x\" is no time in milliseconds");
        check("0 1\n1 -1\n", "line 2: \"-1\" is no time in milliseconds");
        check("0 1\n1\n", "2 rows, but 1 columns in line 2");
    }
}
