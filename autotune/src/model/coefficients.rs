//! What the model needs besides the rates of a device, and where each number comes from.

use serde::{Deserialize, Serialize};

/// A coefficient's row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its name in files.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its value where nothing was fitted.
    pub default: f64,
    /// What a fit may make of it, lowest and highest.
    pub bounds: [f64; 2],
    /// Where the default comes from.
    pub source: &'static str,
}

macro_rules! coefficients {
    ($($name:ident = $value:expr, [$low:expr, $high:expr], $unit:literal, $what:literal, $source:literal;)*) => {
        /// The model's coefficients: the literature's by default, a device profile may carry fitted ones.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Coefficients {
            $(#[doc = concat!("The ", $what, ", ", $unit, ". Default: ", $source, ".")] pub $name: f64,)*
        }

        impl Default for Coefficients {
            fn default() -> Self {
                Coefficients { $($name: $value),* }
            }
        }

        impl Coefficients {
            /// A row for each, in the order of [`Self::values`].
            pub const TABLE: &[Row] = &[$(Row {
                name: stringify!($name),
                what: $what,
                unit: $unit,
                default: $value,
                bounds: [$low, $high],
                source: $source,
            }),*];

            /// Their values.
            pub fn values(&self) -> Vec<f64> {
                vec![$(self.$name),*]
            }

            /// Those of these values; the defaults where there are fewer.
            pub fn of(values: &[f64]) -> Self {
                let mut all = values.iter().copied();
                Coefficients { $($name: all.next().unwrap_or($value)),* }
            }
        }
    };
}

coefficients! {
    tensor = 0.95, [0.4, 1.0], "share", "part of the tensor cores' rate a stream of multiplies reaches", "arXiv 2501.12084: wgmma of full width at 95 % and more";
    smem_copies = 1.0, [0.0, 2.0], "share", "part of the bytes copied into shared memory that gets in the way of reads", "DeepGEMM's heuristics count them whole";
    l2 = 1.0, [0.2, 1.5], "share", "part of L2's rate that kernels reach", "the profile's rate is DeepGEMM's";
    memory = 1.0, [0.4, 1.1], "share", "part of what copies reach of device memory", "the profile's rate is that of copies";
    unhidden = 0.02, [0.0, 0.5], "share", "part of what the other parts of an SM take that the slowest does not hide", "estimate: little, so that of two kernels with one bound the one that asks less of the rest comes first";
    latency = 1.0, [0.3, 3.0], "factor", "time until a load's bytes come over the profile's", "the profile's";
    control = 70.0, [0.0, 400.0], "cycles", "chain of barriers of a block", "microbenchmarks: mbarrier arrive 29, try_wait to predicate 32 to 36";
    tma_issue = 32.0, [0.0, 128.0], "cycles", "time between two TMA instructions of an SM", "microbenchmarks: at least 32";
    copy_instructions = 8.0, [2.0, 24.0], "instructions", "instructions of a cp.async with its address", "estimate: address, bounds, swizzle";
    multiply_instructions = 1.3, [1.0, 3.0], "instructions", "issue slots of an mma.sync with what goes with it, without loads", "estimate";
    epilogue = 400.0, [0.0, 4000.0], "cycles", "end of a tile besides its bytes", "estimate";
    softmax = 6.0, [3.0, 12.0], "instructions", "instructions of a score besides its exponential", "machine code of forwards: 6 to 9";
    collide = 0.1, [0.0, 1.0], "share", "part of the shorter of multiplies and softmax that stays in sight where overlap within a warpgroup, or turns among them, are left to chance", "estimate";
    slots_alone = 0.4, [0.1, 1.0], "share", "part of a scheduler's slots that decoding would fill without any warp", "estimate";
    slots_warp = 0.15, [0.0, 0.5], "share", "part of its slots that each warp adds", "estimate";
    slots_most = 0.9, [0.5, 1.0], "share", "most of its slots that warps fill", "estimate";
    l2_holds = 0.6, [0.2, 1.0], "share", "part of L2 that holds what a wave of tiles reads", "estimate: both halves may hold a copy of a line";
    launch = 1.0, [0.2, 5.0], "factor", "time of a launch over the profile's", "the profile's";
    power = 1.0, [0.0, 2.0], "share", "part of the profile's drop of the clock that full tensor load costs", "the profile's clocks";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_source_and_a_default_inside_its_bounds() {
        for r in Coefficients::TABLE {
            assert!(r.bounds[0] <= r.default && r.default <= r.bounds[1], "{}", r.name);
            assert!(!r.source.is_empty() && !r.what.is_empty() && !r.unit.is_empty(), "{}", r.name);
        }
        let c = Coefficients::default();
        assert_eq!(Coefficients::of(&c.values()), c);
    }

    #[test]
    fn files_name_what_differs_and_nothing_else() {
        let c: Coefficients = toml::from_str("tensor = 0.8").unwrap();
        assert_eq!(c, Coefficients { tensor: 0.8, ..Coefficients::default() });
        assert!(toml::from_str::<Coefficients>("speed = 2").unwrap_err().to_string().contains("speed"));
    }
}
