//! Pure: who comes back when, should this server be lost - each session has a slot of its own, evenly spread.
//!
//! A thousand encoders that lose one server in one instant and roll dice meet by chance: the fullest 100 ms has twice what
//! the average has. The places of a van der Corput sequence never meet, and any number of them, counted from the first, is
//! spread as evenly as can be (`tests/pure/storm.rs` measures both).

/// The slot of the place of this number, in 1/65536. Places are given out lowest first.
#[must_use]
pub const fn slot_of(place: u16) -> u16 {
    place.reverse_bits()
}

/// The lowest place that nobody has; beyond 65 536 sessions they share.
pub(super) fn free_place(taken: impl Iterator<Item = u16>) -> u16 {
    let mut taken: Vec<u16> = taken.collect();
    taken.sort_unstable();
    taken.dedup();
    let first_gap = taken.iter().zip(0..).position(|(place, number): (&u16, u32)| u32::from(*place) != number);
    u16::try_from(first_gap.unwrap_or(taken.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_place_that_is_free_is_given() {
        let given = |taken: &[u16]| free_place(taken.iter().copied());
        assert_eq!((given(&[]), given(&[0, 1]), given(&[3, 0, 2]), given(&[1, 1])), (0, 2, 1, 0));
        let all: Vec<u16> = (0..=u16::MAX).collect();
        assert_eq!(given(&all), 0);
    }

    #[test]
    fn any_number_of_slots_is_evenly_spread() {
        for sessions in [10_u16, 100, 1000] {
            let mut slots: Vec<u32> = (0..sessions).map(|place| u32::from(slot_of(place))).collect();
            slots.sort_unstable();
            let even = 65_536 / u32::from(sessions);
            let gaps = slots.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.clone().all(|gap| gap >= even / 2 && gap <= even * 2), "{sessions}: {:?}", gaps.max());
        }
    }
}
