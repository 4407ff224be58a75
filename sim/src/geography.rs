//! Where nodes are: the hosts of a matrix, or metropolitan areas in regions in continents on a plane
//! measured in milliseconds.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::matrix::Matrix;

/// Centres of the continents, in milliseconds of round trip: neighbours some 80 ms apart, ends 250
/// ms.
const CONTINENTS: [(f64, f64); 6] =
    [(0.0, 0.0), (80.0, 10.0), (60.0, 110.0), (170.0, 30.0), (230.0, 60.0), (240.0, 150.0)];
/// Regions lie this far around their continent's centre, metropolitan areas around their region's.
const REGION_SPREAD: f64 = 30.0;
const METRO_SPREAD: f64 = 8.0;
const REGIONS: u64 = 5;
const METROS: u64 = 8;
/// The last mile of a node: from a data centre's to a poor home line's, both ways together.
const ACCESS_MS: (f64, f64) = (0.2, 12.0);
/// Queues lengthen a trip by up to this share.
const JITTER: f64 = 0.1;

/// Between nodes that stand for the same host of a matrix: one site's own network.
const SAME_HOST: Duration = Duration::from_millis(1);

/// The places of all nodes.
#[derive(Debug, Clone)]
pub struct Geography {
    places: Places,
}

#[derive(Debug, Clone)]
enum Places {
    Plane(Vec<Place>),
    /// Which host of the matrix each node is.
    Hosts(Matrix, Vec<usize>),
}

#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    access_ms: f64,
    metro: u32,
}

impl Geography {
    /// Places `nodes` nodes on a plane.
    #[must_use]
    pub fn new(nodes: usize, rng: &mut ChaCha8Rng) -> Self {
        let metros: Vec<_> = CONTINENTS
            .iter()
            .flat_map(|continent| (0..REGIONS).map(move |_| *continent))
            .map(|continent| around(continent, REGION_SPREAD, rng))
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(|region| (0..METROS).map(move |_| region))
            .map(|region| around(region, METRO_SPREAD, rng))
            .collect();
        let place = |_| {
            let metro = below(rng, metros.len());
            let (x, y) = metros[metro];
            let (least, most) = ACCESS_MS;
            // Squared: many good lines, few bad ones.
            let access_ms = least + (most - least) * unit(rng).powi(2);
            let metro = u32::try_from(metro).expect("metropolitan areas are few");
            Place { x, y, access_ms, metro }
        };
        Self { places: Places::Plane((0..nodes).map(place).collect()) }
    }

    /// Makes `nodes` nodes the hosts of a matrix in an order drawn by chance; those beyond its rows
    /// stand on them again.
    #[must_use]
    pub fn of_matrix(matrix: Matrix, nodes: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<_> = (0..matrix.rows()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, below(rng, at + 1));
        }
        let hosts = order.iter().copied().cycle().take(nodes).collect();
        Self { places: Places::Hosts(matrix, hosts) }
    }

    /// The round trip between two nodes without queues.
    #[must_use]
    pub fn rtt(&self, a: usize, b: usize) -> Duration {
        match &self.places {
            Places::Plane(places) => {
                let (a, b) = (places[a], places[b]);
                let ms = (a.x - b.x).hypot(a.y - b.y) + a.access_ms + b.access_ms;
                Duration::from_secs_f64(ms / 1_000.0)
            }
            Places::Hosts(_, hosts) if hosts[a] == hosts[b] => SAME_HOST,
            Places::Hosts(matrix, hosts) => matrix.rtt(hosts[a], hosts[b]),
        }
    }

    /// The number of the metropolitan area that a node lives in; none on a matrix.
    #[must_use]
    pub fn metro(&self, node: usize) -> Option<u32> {
        match &self.places {
            Places::Plane(places) => Some(places[node].metro),
            Places::Hosts(..) => None,
        }
    }

    /// The median round trip of all pairs of the first thousand nodes.
    #[must_use]
    pub fn median_rtt(&self) -> Duration {
        let nodes = match &self.places {
            Places::Plane(places) => places.len(),
            Places::Hosts(matrix, hosts) => hosts.len().min(matrix.rows()),
        };
        let nodes = nodes.min(1_000);
        let mut all: Vec<_> = (0..nodes)
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| self.rtt(a, b))
            .collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// How long one datagram takes this time.
    #[must_use]
    pub fn delay(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Duration {
        (self.rtt(from, to) / 2).mul_f64(1.0 + JITTER * unit(rng))
    }
}

/// Uniform in 0..1.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

/// Uniform in 0..bound.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound as u64).expect("it is below a usize")
}

fn around((x, y): (f64, f64), spread: f64, rng: &mut ChaCha8Rng) -> (f64, f64) {
    (x + spread * (2.0 * unit(rng) - 1.0), y + spread * (2.0 * unit(rng) - 1.0))
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn distances_are_those_of_a_planet() {
        let geography = Geography::new(300, &mut ChaCha8Rng::seed_from_u64(1));
        let mut rtts: Vec<_> = (0..300)
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| geography.rtt(a, b).as_millis())
            .collect();
        rtts.sort_unstable();
        assert!(rtts[rtts.len() / 100] < 20, "some are in one town");
        assert!((80..200).contains(&rtts[rtts.len() / 2]), "{}", rtts[rtts.len() / 2]);
        assert!(rtts[rtts.len() - 1] < 450, "{}", rtts[rtts.len() - 1]);
    }

    #[test]
    fn nodes_stand_on_the_rows_of_a_matrix() {
        let matrix = Matrix::read("0 10 20\n10 0 30\n20 30 0\n".as_bytes()).unwrap();
        let geography = Geography::of_matrix(matrix, 6, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(geography.rtt(0, 3), SAME_HOST, "a row is used again");
        let mut rtts = [(0, 1), (0, 2), (1, 5)].map(|(a, b)| geography.rtt(a, b).as_millis());
        rtts.sort_unstable();
        assert_eq!(rtts, [10, 20, 30]);
        assert_eq!(geography.median_rtt().as_millis(), 20);
    }
}
