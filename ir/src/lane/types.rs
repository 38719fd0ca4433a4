//! Types of Lane IR values: what fits a PTX register.

use std::fmt;

/// An address space. Generic pointers exist only for tensor maps, which the TMA instructions take that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Generic.
    Generic,
    /// Global memory, 64-bit.
    Global,
    /// The CTA's own shared memory, 32-bit.
    Shared,
    /// Shared memory of any CTA of the cluster, 32-bit.
    Cluster,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// Predicate.
    I1,
    /// 16 bits without a meaning.
    I16,
    /// 32-bit integer, or two packed 16-bit numbers.
    I32,
    /// 64-bit integer.
    I64,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE binary32.
    F32,
    /// A pointer.
    Ptr(Space),
}

impl Ty {
    const NAMES: [(Ty, &'static str); 11] = [
        (Ty::I1, "i1"),
        (Ty::I16, "i16"),
        (Ty::I32, "i32"),
        (Ty::I64, "i64"),
        (Ty::F16, "f16"),
        (Ty::BF16, "bf16"),
        (Ty::F32, "f32"),
        (Ty::Ptr(Space::Generic), "ptr"),
        (Ty::Ptr(Space::Global), "ptr.global"),
        (Ty::Ptr(Space::Shared), "ptr.shared"),
        (Ty::Ptr(Space::Cluster), "ptr.cluster"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(t, _)| *t == self).expect("every type has a name").1
    }

    /// The type a name stands for.
    pub fn from_name(name: &str) -> Option<Ty> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(t, _)| *t)
    }

    /// True for `i1`, `i16`, `i32`, `i64`.
    pub fn is_int(self) -> bool {
        matches!(self, Ty::I1 | Ty::I16 | Ty::I32 | Ty::I64)
    }

    /// True for `f16`, `bf16`, `f32`.
    pub fn is_float(self) -> bool {
        matches!(self, Ty::F16 | Ty::BF16 | Ty::F32)
    }

    /// Bytes in memory; pointers as PTX stores them.
    pub fn bytes(self) -> u32 {
        match self {
            Ty::I1 => 1,
            Ty::I16 | Ty::F16 | Ty::BF16 => 2,
            Ty::I32 | Ty::F32 | Ty::Ptr(Space::Shared | Space::Cluster) => 4,
            Ty::I64 | Ty::Ptr(Space::Generic | Space::Global) => 8,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
