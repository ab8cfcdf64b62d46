//! Pure: which number each session has among all of this server. Should the server be lost, its encoders spread by it
//! (docs/signalling.md: `welcome.retrySlot`; over WHIP a header of the answer).

/// The lowest number that nobody has; beyond 65 536 sessions they share.
pub(super) fn lowest_free(taken: impl Iterator<Item = u16>) -> u16 {
    let mut taken: Vec<u16> = taken.collect();
    taken.sort_unstable();
    taken.dedup();
    let first_gap = taken.iter().zip(0..).position(|(slot, number): (&u16, u32)| u32::from(*slot) != number);
    u16::try_from(first_gap.unwrap_or(taken.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_that_is_free_is_given() {
        let given = |taken: &[u16]| lowest_free(taken.iter().copied());
        assert_eq!((given(&[]), given(&[0, 1]), given(&[3, 0, 2]), given(&[1, 1])), (0, 2, 1, 0));
        let all: Vec<u16> = (0..=u16::MAX).collect();
        assert_eq!(given(&all), 0);
    }
}
