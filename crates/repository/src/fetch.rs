//! Which blobs are fetched together: neighbours in a pack, in one request.

use std::ops::Range;

use crate::index::Place;

/// Blobs so near to each other are fetched in one request.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// One request is about so long at most.
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Stretches of `places`, which are sorted by pack and offset.
pub(crate) fn stretches(places: &[Place]) -> Vec<Range<usize>> {
    let mut stretches = Vec::new();
    let mut start = 0;
    for i in 1..=places.len() {
        let joined = places.get(i).is_some_and(|next| {
            let (first, last) = (&places[start], &places[i - 1]);
            next.pack == first.pack
                && u64::from(next.offset) <= end_of(last) + GAP_BYTES_MAX
                && end_of(next) - u64::from(first.offset) <= FETCH_BYTES_MAX
        });
        if !joined {
            stretches.push(start..i);
            start = i;
        }
    }
    stretches
}

/// The bytes of a pack that a stretch covers.
pub(crate) fn range_of(stretch: &[Place]) -> Range<u64> {
    match stretch {
        [] => 0..0,
        [first, .., last] => u64::from(first.offset)..end_of(last),
        [only] => u64::from(only.offset)..end_of(only),
    }
}

fn end_of(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_fetched_together_and_others_apart() {
        let at = |pack, offset, length| Place { pack, offset, length, uncompressed: None };
        let places =
            [at(0, 0, 100), at(0, 100, 100), at(0, 1 << 20, 100), at(1, 0, 9 << 20), at(1, 9 << 20, 5)];
        assert_eq!(stretches(&places), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(range_of(&places[0..2]), 0..200);
    }
}
