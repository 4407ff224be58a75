//! The pictures of the demo: drawn by a formula and written as PNG (RFC 2083), so that the program
//! carries no files.

use bytes::Bytes;

/// Width and height in pixels. Without compression a picture is some 260 kB: half a second of uplink.
const WIDTH: u32 = 360;
const HEIGHT: u32 = 240;

/// A mood: where the waves stand and which colours they take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    /// Moves the pattern.
    pub(crate) phase: f64,
    /// Where red, green and blue begin on their waves, 0 to 1.
    pub(crate) tint: [f64; 3],
}

/// The scene as a PNG file. The same scene gives the same octets.
pub(crate) fn png(scene: Scene) -> Bytes {
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&WIDTH.to_be_bytes());
    header.extend_from_slice(&HEIGHT.to_be_bytes());
    // Eight bits a sample, RGB, the only compression and filter methods there are, no interlace.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &zlib_stored(&scanlines(scene)));
    chunk(&mut file, b"IEND", &[]);
    file.into()
}

/// The CRC-32 of PNG and gzip (RFC 1952, section 8).
pub(crate) fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(!0, |crc: u32, octet| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC_TABLE[usize::from(low ^ octet)]
    })
}

/// What each octet does to a CRC.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0_u32;
    while octet < 256 {
        let mut crc = octet;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[octet as usize] = crc;
        octet += 1;
    }
    table
};

fn scanlines(scene: Scene) -> Vec<u8> {
    let mut rows = Vec::with_capacity((1 + 3 * WIDTH as usize) * HEIGHT as usize);
    for y in 0..HEIGHT {
        rows.push(0); // filter type: none
        for x in 0..WIDTH {
            let across = f64::from(x) / f64::from(WIDTH);
            let down = f64::from(y) / f64::from(HEIGHT);
            rows.extend_from_slice(&colour(scene, across, down));
        }
    }
    rows
}

/// Waves bent by other waves, coloured by a cosine for each channel.
fn colour(scene: Scene, across: f64, down: f64) -> [u8; 3] {
    let bend = (3.0 * down + scene.phase).sin() + 0.5 * (7.0 * across - scene.phase).cos();
    let swell = (5.0 * across + 2.0 * bend).sin() + (9.0 * down + 1.5 * bend).cos();
    let height = 0.25 * swell + 0.5 * down;
    scene.tint.map(|start| {
        let light = 0.55 + 0.45 * (std::f64::consts::TAU * (0.6 * height + start)).cos();
        octet(light * 255.0)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a float saturates at the ends of u8")]
fn octet(value: f64) -> u8 {
    value as u8
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951, section 3.2.4).
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a block is cut to fit");
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend_from_slice(&adler32(data).to_be_bytes());
    stream
}

fn adler32(data: &[u8]) -> u32 {
    let (low, high) = data.iter().fold((1, 0), |(low, high), &octet| {
        let low = (low + u32::from(octet)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a picture is far smaller than 4 GiB");
    file.extend_from_slice(&length.to_be_bytes());
    let start = file.len();
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    let crc = crc32(&file[start..]);
    file.extend_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_have_their_known_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_picture_holds_every_pixel_and_repeats() {
        let scene = Scene { phase: 1.0, tint: [0.0, 0.3, 0.6] };
        let file = png(scene);
        assert_eq!(file, png(scene));
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert!(file.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
        assert!(file.len() > 3 * (WIDTH * HEIGHT) as usize);
        let other = png(Scene { phase: 2.0, ..scene });
        assert_ne!(crc32(&file), crc32(&other));
    }
}
