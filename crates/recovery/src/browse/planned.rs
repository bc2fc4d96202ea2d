//! The names of what a restore would change: the first ones, so that memory is bounded whatever the plan.

use repository::Planned;

/// So many names of each kind of change are kept; the figures of the plan count all.
const NAMES_MAX: usize = 50;
/// Longer paths lose their beginning. No system takes longer ones at once.
const PATH_BYTES_MAX: usize = 4096;

/// The first names of what a restore would change, each a path below the component's place. Raw bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedNames {
    /// What would be added.
    pub made: Vec<Vec<u8>>,
    /// What would get other content.
    pub made_equal: Vec<Vec<u8>>,
    /// What would be removed.
    pub removed: Vec<Vec<u8>>,
}

impl PlannedNames {
    /// Keeps one more, if there are not enough.
    pub(super) fn note(&mut self, path: &[u8], change: Planned) {
        let names = match change {
            Planned::Made => &mut self.made,
            Planned::MadeEqual => &mut self.made_equal,
            Planned::Removed => &mut self.removed,
        };
        if names.len() < NAMES_MAX {
            names.push(path[path.len().saturating_sub(PATH_BYTES_MAX)..].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_kept_and_no_more_than_has_room() {
        let mut names = PlannedNames::default();
        for number in 0..10_000 {
            names.note(format!("/{number}").as_bytes(), Planned::Removed);
        }
        names.note(&[b'x'; 100_000], Planned::Made);
        assert_eq!((names.removed.len(), names.removed[49].as_slice()), (NAMES_MAX, &b"/49"[..]));
        assert_eq!((names.made[0].len(), names.made_equal.len()), (PATH_BYTES_MAX, 0));
    }
}
