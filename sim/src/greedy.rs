//! Clusters as somebody would draw them who knew all round trips.

use std::time::Duration;

use crate::geography::Geography;

/// The share of a cluster's members that each member must have within the bound (Coral).
const ACCEPTABLE: (usize, usize) = (4, 5);

/// The clusters of the first `nodes` nodes: the largest acceptable one that any centre draws
/// together, then the largest of the rest, to the end. Each node's cluster by number.
#[must_use]
pub fn greedy(geography: &Geography, nodes: usize, bound: Duration) -> Vec<usize> {
    let near: Vec<Vec<bool>> = (0..nodes)
        .map(|a| (0..nodes).map(|b| a != b && geography.rtt(a, b) < bound).collect())
        .collect();
    let mut clusters = vec![usize::MAX; nodes];
    let mut left: Vec<_> = (0..nodes).collect();
    let mut number = 0;
    while !left.is_empty() {
        let around = |centre: &usize| pruned(&near, *centre, &left);
        let largest = left.iter().map(around).max_by_key(Vec::len).expect("somebody is left");
        largest.iter().for_each(|at| clusters[*at] = number);
        left.retain(|at| clusters[*at] == usize::MAX);
        number += 1;
    }
    clusters
}

/// A centre and those near it, less those who have too few of them near, the worst one first.
fn pruned(near: &[Vec<bool>], centre: usize, left: &[usize]) -> Vec<usize> {
    let mut members: Vec<_> =
        left.iter().copied().filter(|at| *at == centre || near[centre][*at]).collect();
    let count = |at: usize| members.iter().filter(|other| near[at][**other]).count();
    let mut degrees: Vec<_> = members.iter().map(|at| count(*at)).collect();
    let (least, of) = ACCEPTABLE;
    loop {
        let others = members.len() - 1;
        let worst =
            (0..members.len()).filter(|i| members[*i] != centre).min_by_key(|i| degrees[*i]);
        match worst {
            Some(worst) if degrees[worst] * of < others * least => {
                let gone = members.swap_remove(worst);
                degrees.swap_remove(worst);
                for (member, degree) in members.iter().zip(&mut degrees) {
                    *degree -= usize::from(near[*member][gone]);
                }
            }
            _ => return members,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::matrix::Matrix;

    #[test]
    fn two_towns_are_two_clusters() {
        let ms = |a: usize, b: usize| if a % 2 == b % 2 { 5 } else { 90 };
        let row = |a| (0..10).map(move |b| format!("{} ", ms(a, b))).collect::<String>() + "\n";
        let matrix = Matrix::read((0..10).map(row).collect::<String>().as_bytes()).unwrap();
        let geography = Geography::of_matrix(matrix, 10, &mut ChaCha8Rng::seed_from_u64(3));
        let bound = Duration::from_millis(20);
        let clusters = greedy(&geography, 10, bound);
        for a in 0..10 {
            for b in 0..10 {
                let near = a == b || geography.rtt(a, b) < bound;
                assert_eq!(clusters[a] == clusters[b], near);
            }
        }
    }
}
