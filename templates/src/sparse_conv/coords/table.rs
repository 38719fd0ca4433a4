//! The hash table of a set of voxels: slots that hold row numbers, -1 where empty, walked one after the other from the slot that the
//! hash chooses. What a slot stands for never changes once it is taken, so a walk needs no lock.

use super::lanes::{Four, Lanes};
use tilewright_ir::tile::{CmpPred, RoleBuilder, Scalar, TensorRef, TileRef};

/// Most slots a walk passes. In a table an eighth full none comes near it; one without room for its voxels is soon given up.
const MOST_STEPS: i64 = 512;

/// A table and how many slots it has.
pub(super) struct Table {
    pub tensor: TensorRef,
    pub slots: Scalar,
}

/// A step of a walk.
struct Step {
    at: TileRef,
    /// Which elements are still under way.
    going: TileRef,
}

impl Table {
    /// Walks from each key's slot, where `mask` holds, until `body` says which elements go on no more: it gives those that do. A walk
    /// passes no slot twice, and not more than there may be; gives the elements whose walk ended so.
    fn walk(
        &self,
        r: &mut RoleBuilder,
        l: &Lanes,
        key: Four,
        mask: TileRef,
        body: impl FnOnce(&mut RoleBuilder, Step) -> TileRef,
    ) -> TileRef {
        let first = l.first_slot(r, key, self.slots);
        let most = r.min(self.slots, MOST_STEPS);
        let (at, going, wishes, steps) = (r.tile_cell(first), r.tile_cell(mask), r.tile_cell(mask), r.scalar_cell(0));
        r.while_any(going, |r| {
            let step = Step { at: r.get_tile(at), going: r.get_tile(going) };
            let here = step.at;
            let more = body(r, step);
            let next = l.by(r, "add", here, 1);
            let zero = l.lit(r, 0);
            let past = l.than(r, CmpPred::Eq, next, self.slots);
            let next = r.choose(past, zero, next);
            let passed = r.get(steps);
            let passed = r.add(passed, 1);
            let passed_all = l.all(r, passed);
            let may = l.than(r, CmpPred::Lt, passed_all, most);
            r.set(steps, passed);
            r.set_tile(at, next);
            r.set_tile(wishes, more);
            let more = r.binary("and", more, may);
            r.set_tile(going, more);
        });
        r.get_tile(wishes)
    }

    /// The row of each key among `coords`, or -1: also where the mask does not hold.
    pub fn find(&self, r: &mut RoleBuilder, l: &Lanes, coords: &TensorRef, key: Four, mask: TileRef) -> TileRef {
        let none = l.lit(r, -1);
        let found = r.tile_cell(none);
        self.walk(r, l, key, mask, |r, step| {
            let row = r.load_elems(&self.tensor, &[], step.at, Some(step.going));
            let row = l.or_none(r, step.going, row);
            let taken = l.is(r, CmpPred::Ge, row, 0);
            let other = l.load(r, coords, row);
            let same = l.same(r, key, other);
            let same = r.binary("and", same, taken);
            let before = r.get_tile(found);
            let now = r.choose(same, row, before);
            r.set_tile(found, now);
            let differs = r.unary("not", same);
            r.binary("and", taken, differs)
        });
        r.get_tile(found)
    }

    /// Puts `number` in the slot of each key; of equal keys the least number stays, whoever comes first. `same` tells whether the
    /// number in a slot stands for an element's key; `met` hears, for elements that met an equal key, the larger of both numbers.
    /// Gives the elements that found no slot.
    #[allow(clippy::too_many_arguments)] // all of them are needed, none belong together
    pub fn insert(
        &self,
        r: &mut RoleBuilder,
        l: &Lanes,
        key: Four,
        number: TileRef,
        mask: TileRef,
        same: impl FnOnce(&mut RoleBuilder, TileRef) -> TileRef,
        met: impl FnOnce(&mut RoleBuilder, TileRef, TileRef),
    ) -> TileRef {
        self.walk(r, l, key, mask, |r, step| {
            let empty = l.lit(r, -1);
            let old = r.atomic_cas(&self.tensor, &[], step.at, [empty, number], Some(step.going));
            let old = l.or_none(r, step.going, old);
            let taken = l.is(r, CmpPred::Ge, old, 0);
            let equal = same(r, old);
            let equal = r.binary("and", equal, taken);
            // Numbers in a slot only fall: one that is below already stays there.
            let less = r.compare(CmpPred::Lt, number, old);
            let lowers = r.binary("and", equal, less);
            let before = r.atomic("min", &self.tensor, &[], step.at, number, Some(lowers));
            let before = r.choose(lowers, before, old);
            let larger = r.binary("max", before, number);
            met(r, larger, equal);
            let differs = r.unary("not", equal);
            r.binary("and", taken, differs)
        })
    }
}
