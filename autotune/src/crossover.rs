//! Packed weights: decode them as they are multiplied, or unpack them to 16 bits and multiply densely.

use crate::device::DeviceProfile;
use crate::model::weight::bytes_a_weight;
use tilewright_templates::gemm::Packed;

/// What of the dense kernel's rate a kernel that decodes is taken to reach once tensor cores bound it. An estimate, the same for
/// both kernels: wgmmas wait for A fragments that the same warps decode between them; mma.sync tiles of 32 tokens decode a
/// weight again for each 32, some 120 issue slots beside 256 of mma. Where it is too low, plans unpack too early and lose at
/// most the unpacking; where too high, they lose at most its inverse. Measurements replace it.
const DECODING_SHARE: f64 = 0.6;

/// Tokens from which unpacking first is faster than multiplying by the packed weight of n rows by k.
///
/// Up to there few tokens are bound by bytes, of which a packed weight has a quarter or half as many: dense kernels are no
/// match whether or not the unpacking is counted. Beyond, both are bound by the tensor cores. Unpacking costs, for each
/// weight, its packed bytes and 2 written and 2 read back, `traffic / memory` seconds, and a launch for all. It buys the dense
/// rate: `2 / rate * (1 / share - 1)` seconds for each weight and token. So
///
/// `m = (traffic / memory + launch / (n k)) * rate / 2 * share / (1 - share)`:
///
/// some 620 tokens on H200 and 530 on A100 for large layers; for small ones, where the launch counts, more.
pub fn crossover(d: &DeviceProfile, p: Packed, n: usize, k: usize) -> usize {
    let rate = f64::from(d.sms) * d.tensor_flops * d.clock_hz * d.coefficients().tensor;
    let traffic = bytes_a_weight(p) + 4.0;
    let seconds = traffic / d.memory_bytes + d.launch_seconds / (n as f64 * k as f64);
    let m = seconds * rate / 2.0 * DECODING_SHARE / (1.0 - DECODING_SHARE);
    m.ceil().min(1e9) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::Arch;

    #[test]
    fn large_layers_switch_where_the_comment_says_and_small_ones_later() {
        let p = Packed { bits: 4, group: 128, zero: false };
        let at = |arch, n, k| crossover(DeviceProfile::typical(arch), p, n, k);
        let (hopper, ampere) = (at(Arch::Sm90a, 28672, 8192), at(Arch::Sm80, 28672, 8192));
        assert!((600..=650).contains(&hopper) && (510..=560).contains(&ampere), "{hopper} {ampere}");
        assert!(at(Arch::Sm90a, 512, 512) > 4 * hopper);
        // More bytes to read: later.
        let wide = Packed { bits: 8, group: 32, zero: true };
        assert!(crossover(DeviceProfile::typical(Arch::Sm90a), wide, 28672, 8192) > hopper);
    }
}
