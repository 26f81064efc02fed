//! Counting votes: pure, no accounts.

/// Whether `root` has at least `threshold` votes among the oracles that voted.
#[inline(always)]
pub fn reaches(roots: &[[u8; 32]; 16], voted: u16, count: u8, root: &[u8; 32], threshold: u8) -> bool {
    let mut equal = 0;
    for (index, vote) in roots.iter().enumerate().take(count as usize) {
        if voted >> index & 1 == 1 && vote == root {
            equal += 1;
        }
    }
    equal >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(roots: &[u8]) -> ([[u8; 32]; 16], u16) {
        let mut all = [[0; 32]; 16];
        for (slot, root) in all.iter_mut().zip(roots) {
            *slot = [*root; 32];
        }
        (all, (1 << roots.len()) - 1)
    }

    #[test]
    fn k_equal_votes_make_a_root_final() {
        let (roots, voted) = votes(&[1, 2, 1]);
        assert!(reaches(&roots, voted, 3, &[1; 32], 2));
        assert!(!reaches(&roots, voted, 3, &[2; 32], 2));
    }

    #[test]
    fn the_zero_root_of_those_who_did_not_vote_does_not_count() {
        let (roots, _) = votes(&[]);
        assert!(!reaches(&roots, 1, 5, &[0; 32], 3));
    }

    #[test]
    fn votes_beyond_the_set_do_not_count() {
        let (roots, voted) = votes(&[1, 1, 1]);
        assert!(!reaches(&roots, voted, 2, &[1; 32], 3));
    }
}
