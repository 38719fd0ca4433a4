//! A device set up for one run: memory, arguments, and what the outputs must hold.

use half::{bf16, f16};
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, Launch, TensorMap};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ty {
    F64,
    F32,
    F16,
    Bf16,
    E4m3,
    I8,
    I32,
    U32,
    I64,
}

impl Ty {
    pub fn bytes(self) -> usize {
        match self {
            Ty::F64 | Ty::I64 => 8,
            Ty::F32 | Ty::I32 | Ty::U32 => 4,
            Ty::F16 | Ty::Bf16 => 2,
            Ty::E4m3 | Ty::I8 => 1,
        }
    }

    /// Half a unit in the last place of a number of size 1, the relative error of rounding to nearest.
    fn unit(self) -> f64 {
        let bits = match self {
            Ty::F64 => 53,
            Ty::F32 => 24,
            Ty::F16 => 11,
            Ty::Bf16 => 8,
            Ty::E4m3 => 4,
            Ty::I8 | Ty::I32 | Ty::U32 | Ty::I64 => return 0.0,
        };
        0.5f64.powi(bits)
    }

    /// Half the smallest subnormal.
    fn tiny(self) -> f64 {
        match self {
            Ty::F16 => 0.5f64.powi(25),
            Ty::E4m3 => 0.5f64.powi(10),
            // Flushed to zero at worst.
            Ty::F32 | Ty::Bf16 => f64::from(f32::MIN_POSITIVE),
            _ => 0.0,
        }
    }

    pub fn encode(self, values: &[f64]) -> Vec<u8> {
        let mut out = Vec::with_capacity(values.len() * self.bytes());
        for &v in values {
            match self {
                Ty::F64 => out.extend(v.to_le_bytes()),
                Ty::F32 => out.extend((v as f32).to_le_bytes()),
                Ty::F16 => out.extend(f16::from_f64(v).to_le_bytes()),
                Ty::Bf16 => out.extend(bf16::from_f64(v).to_le_bytes()),
                Ty::E4m3 => out.push(e4m3_nearest(v)),
                Ty::I8 => out.push(v as i8 as u8),
                Ty::I32 => out.extend((v as i32).to_le_bytes()),
                Ty::U32 => out.extend((v as u32).to_le_bytes()),
                Ty::I64 => out.extend((v as i64).to_le_bytes()),
            }
        }
        out
    }

    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let number = |c: &[u8]| {
            let mut word = [0; 8];
            word[..c.len()].copy_from_slice(c);
            let bits = u64::from_le_bytes(word);
            match self {
                Ty::F64 => f64::from_bits(bits),
                Ty::F32 => f64::from(f32::from_bits(bits as u32)),
                Ty::F16 => f16::from_bits(bits as u16).to_f64(),
                Ty::Bf16 => bf16::from_bits(bits as u16).to_f64(),
                Ty::E4m3 => e4m3(bits as u8),
                Ty::I8 => f64::from(bits as i8),
                Ty::I32 => f64::from(bits as i32),
                Ty::U32 => f64::from(bits as u32),
                Ty::I64 => bits as i64 as f64,
            }
        };
        bytes.chunks_exact(self.bytes()).map(number).collect()
    }

    /// `values` as they come back from memory.
    pub fn rounded(self, values: &[f64]) -> Vec<f64> {
        self.decode(&self.encode(values))
    }
}

/// e4m3 without infinities: 1 sign, 4 exponent bits of bias 7, 3 of mantissa.
fn e4m3(bits: u8) -> f64 {
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f64.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    }
}

fn e4m3_nearest(v: f64) -> u8 {
    let distance = |bits: &u8| (e4m3(*bits) - v).abs();
    (0..=255u8).filter(|bits| !e4m3(*bits).is_nan()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// How far a result may be from the reference, before it is rounded to its type.
pub enum Bound {
    Exact,
    /// Exact, but the elements may be in any order.
    AnyOrder,
    /// Absolute, for each element.
    Within(Vec<f64>),
    /// Relative to the value wanted.
    Relative(f64),
}

struct Output {
    name: usize,
    buffer: BufferId,
    ty: Ty,
    want: Vec<f64>,
    bound: Bound,
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform in `low..high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low) as u64) as i64
    }

    /// Uniform in -1 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// The layout of a tensor descriptor, as its compiler says.
#[derive(Clone, Debug)]
pub struct MapLayout {
    pub swizzle: u64,
    pub box_rows_cols: [u32; 2],
}

pub struct Bench {
    pub device: Device,
    pub launch: Launch,
    pub random: Random,
    pub maps: Vec<MapLayout>,
    /// Bytes for each block of scratch memory that the compiler asks for.
    pub scratch_bytes: u64,
    outputs: Vec<Output>,
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        let config = DeviceConfig { seed, max_steps: 3_000_000, ..DeviceConfig::default() };
        Bench {
            device: Device::new(config),
            launch: Launch::default(),
            random: Random(17),
            maps: Vec::new(),
            scratch_bytes: 0,
            outputs: Vec::new(),
        }
    }

    /// Random numbers that `ty` represents: -1 to 1, or small integers.
    pub fn values(&mut self, ty: Ty, count: usize) -> Vec<f64> {
        let whole = matches!(ty, Ty::I8 | Ty::I32 | Ty::I64 | Ty::U32);
        let values: Vec<f64> =
            (0..count).map(|_| if whole { self.random.int(0, 100) as f64 } else { self.random.unit() }).collect();
        ty.rounded(&values)
    }

    pub fn ints(&mut self, low: i64, high: i64, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.random.int(low, high) as f64).collect()
    }

    fn memory(&mut self, bytes: usize, fill: Fill<'_>) -> BufferId {
        self.device.alloc(bytes as u64, fill).expect("a buffer fits")
    }

    /// A buffer that no argument names yet.
    pub fn buffer(&mut self, ty: Ty, values: &[f64]) -> BufferId {
        self.memory(values.len() * ty.bytes(), Fill::Bytes(&ty.encode(values)))
    }

    /// Demands `want` of a buffer after the launch.
    pub fn demand(&mut self, buffer: BufferId, ty: Ty, want: Vec<f64>, bound: Bound) {
        self.outputs.push(Output { name: self.launch.args.len(), buffer, ty, want, bound });
    }

    /// An undefined buffer of which `want` is demanded.
    pub fn output_buffer(&mut self, ty: Ty, want: Vec<f64>, bound: Bound) -> BufferId {
        let buffer = self.memory(want.len() * ty.bytes(), Fill::Undefined);
        self.demand(buffer, ty, want, bound);
        buffer
    }

    pub fn pointer(&mut self, buffer: BufferId) {
        let address = self.device.address(buffer);
        self.launch.args.push(Arg::U64(address));
    }

    pub fn input(&mut self, ty: Ty, values: &[f64]) {
        let buffer = self.buffer(ty, values);
        self.pointer(buffer);
    }

    /// A buffer that the kernel must write as a whole.
    pub fn output(&mut self, ty: Ty, want: Vec<f64>, bound: Bound) {
        let buffer = self.output_buffer(ty, want, bound);
        self.pointer(buffer);
    }

    pub fn in_out(&mut self, ty: Ty, start: &[f64], want: Vec<f64>, bound: Bound) {
        let buffer = self.buffer(ty, start);
        self.demand(buffer, ty, want, bound);
        self.pointer(buffer);
    }

    pub fn int(&mut self, value: usize) {
        self.launch.args.push(Arg::U32(value as u32));
    }

    pub fn sizes(&mut self, sizes: &[usize]) {
        sizes.iter().for_each(|size| self.int(*size));
    }

    pub fn float(&mut self, value: f32) {
        self.launch.args.push(Arg::F32(value));
    }

    pub fn double(&mut self, value: f64) {
        self.launch.args.push(Arg::U64(value.to_bits()));
    }

    /// A tensor map of a row-major matrix.
    pub fn tensor_map(&mut self, buffer: BufferId, dtype: TensorDType, [rows, cols]: [usize; 2], layout: &MapLayout) {
        let [box_rows, box_cols] = layout.box_rows_cols;
        let row_bytes = (cols * dtype.bytes() as usize) as u64;
        let map = TensorMap {
            dtype,
            base: self.device.address(buffer),
            dims: vec![cols as u64, rows as u64],
            strides: vec![row_bytes],
            box_dims: vec![box_cols, box_rows],
            element_strides: vec![1, 1],
            swizzle: Swizzle::ALL[layout.swizzle as usize],
            interleave: Interleave::None,
            oob_fill: OobFill::Zero,
        };
        let bytes = self.device.encode_tensor_map(&map).expect("a map").to_vec();
        self.launch.args.push(Arg::Bytes(bytes));
    }

    /// A Triton descriptor: the map, its shape and its strides.
    pub fn descriptor(&mut self, index: usize, buffer: BufferId, dtype: TensorDType, [rows, cols]: [usize; 2]) {
        let layout = self.maps[index].clone();
        self.tensor_map(buffer, dtype, [rows, cols], &layout);
        self.int(rows);
        self.int(cols);
        self.launch.args.extend([Arg::U64(cols as u64), Arg::U64(1)]);
    }

    /// The two pointers every Triton kernel takes last: scratch memory for each block, and the profiler's.
    pub fn triton_scratch(&mut self) {
        let blocks: u32 = self.launch.grid.iter().product();
        let address = if self.scratch_bytes == 0 {
            0
        } else {
            let buffer = self.memory(self.scratch_bytes as usize * blocks as usize, Fill::Undefined);
            self.device.address(buffer)
        };
        self.launch.args.extend([Arg::U64(address), Arg::U64(0)]);
    }

    /// The first element that is not what was demanded.
    pub fn mistake(&self) -> Option<String> {
        self.outputs.iter().find_map(|output| {
            let unwritten = self.device.unwritten(output.buffer);
            if unwritten > 0 {
                return Some(format!("output before argument {}: {unwritten} bytes unwritten", output.name));
            }
            let mut got = output.ty.decode(self.device.read(output.buffer));
            let mut wanted = output.want.clone();
            if matches!(output.bound, Bound::AnyOrder) {
                got.sort_by(f64::total_cmp);
                wanted.sort_by(f64::total_cmp);
            }
            assert_eq!(got.len(), output.want.len(), "a reference has the size of its output");
            (0..got.len()).find_map(|at| {
                let (got, want) = (got[at], wanted[at]);
                let near = match &output.bound {
                    Bound::Exact | Bound::AnyOrder => 0.0,
                    Bound::Within(each) => each[at],
                    Bound::Relative(factor) => want.abs() * factor,
                };
                let rounding = match &output.bound {
                    Bound::Exact | Bound::AnyOrder => 0.0,
                    _ => (want.abs() + near) * output.ty.unit() + output.ty.tiny(),
                };
                let fits = (got - want).abs() <= near + rounding || got == want;
                (!fits).then(|| format!("output before argument {}, element {at}: {got} for {want}, ±{near:e}", output.name))
            })
        })
    }
}
