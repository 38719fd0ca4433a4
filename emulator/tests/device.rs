//! The host side: memory, launches that are refused, reports.

use tilewright_emulator::{Arg, Checks, Device, DeviceConfig, DeviceError, Fill, FindingKind, Launch, LaunchError, Module};

const COPY: &str = "
.version 8.6
.target sm_90a
.address_size 64
.file 1 \"copy.rs\"
.global .align 4 .b32 factor = 3;
.visible .entry copy(.param .u64 x, .param .u64 y, .param .f32 scale)
.reqntid 32, 1, 1
{
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .loc 1 7 1
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    .loc 1 9 1
    ld.global.b32 %r2, [%rd4];
    ld.global.b32 %r3, [factor];
    mul.lo.s32 %r4, %r2, %r3;
    st.global.b32 [%rd5], %r4;
    ret;
}";

fn launch(device: &Device, x: tilewright_emulator::BufferId, y: tilewright_emulator::BufferId) -> Launch {
    Launch {
        entry: "copy".into(),
        block: [32, 1, 1],
        args: vec![Arg::U64(device.address(x)), Arg::U64(device.address(y)), Arg::F32(1.0)],
        ..Launch::default()
    }
}

#[test]
fn buffers_know_what_was_written() -> Result<(), Box<dyn std::error::Error>> {
    let mut device = Device::new(DeviceConfig::default());
    let id = device.alloc(10, Fill::Bytes(&[1, 2, 3]))?;
    assert_eq!(device.address(id) % 256, 0);
    assert_eq!(device.read(id), [1, 2, 3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]);
    assert_eq!(device.unwritten(id), 7);
    device.write_at(id, 8, &[9])?;
    assert_eq!(device.written(id), [true, true, true, false, false, false, false, false, true, false]);
    assert!(matches!(device.write(id, &[0; 11]), Err(DeviceError::OutOfRange { given: 11, .. })));
    device.free(id)?;
    assert!(device.read(id).is_empty());
    assert_eq!(device.free(id), Err(DeviceError::NoBuffer { id }));
    let other = Device::new(DeviceConfig { seed: 5, ..DeviceConfig::default() }).alloc(10, Fill::Zero)?;
    assert_eq!(other, id, "ids are numbered per device");
    Ok(())
}

#[test]
fn launches_are_checked_against_the_kernel() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(COPY)?;
    let mut device = Device::new(DeviceConfig::default());
    let x = device.alloc(128, Fill::Zero)?;
    let good = launch(&device, x, x);
    let mut refused = |change: &dyn Fn(&mut Launch)| {
        let mut bad = good.clone();
        change(&mut bad);
        device.launch(&module, &bad).expect_err("should be refused").to_string()
    };
    assert_eq!(refused(&|l| l.entry = "paste".into()), "the module has no entry `paste`; it has copy");
    assert_eq!(refused(&|l| l.block = [64, 1, 1]), "block [64, 1, 1] differs from .reqntid [32, 1, 1] of `copy`");
    assert_eq!(refused(&|l| l.args[2] = Arg::U64(1)), "argument 2 is 8 bytes, parameter `scale` is 4 bytes");
    assert_eq!(refused(&|l| drop(l.args.pop())), "`copy` takes 3 parameters, the launch gives 2");
    assert!(refused(&|l| l.cluster = [2, 1, 1]).contains("is not a multiple of cluster"));
    assert!(refused(&|l| l.grid = [0, 1, 1]).contains("must not contain 0"));
    assert!(refused(&|l| l.dynamic_shared_bytes = 300_000).contains("exceed the 232448 bytes a block has on sm_90a"));
    Ok(())
}

#[test]
fn findings_name_source_thread_and_address() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(COPY)?;
    let mut device = Device::new(DeviceConfig::default());
    let x = device.alloc(128, Fill::Bytes(&[0; 120]))?;
    let y = device.alloc(128, Fill::Undefined)?;
    let report = device.launch(&module, &launch(&device, x, y))?;
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((finding.kind, finding.line, finding.count), (FindingKind::Uninit, 20, 2));
    assert_eq!(finding.source.as_deref(), Some("copy.rs:9"));
    assert_eq!(finding.address, Some(device.address(x) + 120));
    let thread = finding.thread.ok_or("a thread")?;
    assert_eq!((thread.tid, thread.lanes), ([30, 0, 0], 1 << 30));
    let json = serde_json::to_value(&report)?;
    assert_eq!(json["findings"][0]["kind"], "uninit");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["counters"]["global_bytes_written"], 128);
    Ok(())
}

#[test]
fn freed_memory_is_out_of_bounds() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(COPY)?;
    let mut device = Device::new(DeviceConfig::default());
    let x = device.alloc(128, Fill::Zero)?;
    let y = device.alloc(128, Fill::Undefined)?;
    let late = launch(&device, x, y);
    device.free(y)?;
    let report = device.launch(&module, &late)?;
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::Oob);
    assert!(report.findings[0].message.contains("which was freed"), "{}", report.findings[0].message);
    Ok(())
}

#[test]
fn module_variables_keep_their_contents() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(COPY)?;
    let mut device = Device::new(DeviceConfig::default());
    let ones: Vec<u8> = 1u32.to_le_bytes().repeat(32);
    let x = device.alloc(128, Fill::Bytes(&ones))?;
    let y = device.alloc(128, Fill::Undefined)?;
    let copy = launch(&device, x, y);
    device.launch(&module, &copy)?;
    assert_eq!(device.read(y)[..4], 3u32.to_le_bytes());
    let factor = device.symbol(&module, "factor")?;
    device.write(factor, &50u32.to_le_bytes())?;
    device.launch(&module, &copy)?;
    assert_eq!(device.read(y)[..4], 50u32.to_le_bytes());
    assert!(matches!(device.symbol(&module, "nothing"), Err(DeviceError::NoSymbol { .. })));
    Ok(())
}

#[test]
fn checks_can_be_turned_off_and_hangs_end() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(COPY)?;
    let mut device = Device::new(DeviceConfig { checks: Checks::None, ..DeviceConfig::default() });
    let x = device.alloc(128, Fill::Undefined)?;
    let y = device.alloc(128, Fill::Undefined)?;
    assert!(device.launch(&module, &launch(&device, x, y))?.findings.is_empty());

    let forever = Module::parse(".version 8.6\n.target sm_80\n.address_size 64\n.visible .entry k() {\n$l: bra $l;\n}")?;
    let mut device = Device::new(DeviceConfig { max_steps: 10_000, ..DeviceConfig::default() });
    let report = device.launch(&forever, &Launch { entry: "k".into(), ..Launch::default() })?;
    assert_eq!(report.findings[0].kind, FindingKind::Deadlock);
    assert!(report.findings[0].message.contains("gave up after 10000"));
    Ok(())
}

#[test]
fn errors_are_one_line_with_their_place() {
    let error = |text: &str| Module::parse(text).map(|_| ()).expect_err("not PTX").to_string();
    assert_eq!(error(""), "line 1: the module has no .target");
    assert_eq!(error(".version 8.6\n.target sm_9x\n"), "line 1: `sm_9x` is not an architecture such as sm_80 or sm_90a");
    assert_eq!(error(".version 8.6\n.target sm_80\n.bogus 3"), "line 3: unknown directive `.bogus`");
    assert_eq!(error(".version 8.6\n.target sm_80\n.entry k() {\nret"), "line 4: expected an operand, found the end of the text");
    assert_eq!(error("/* never closed"), "line 1: comment is never closed");
    assert_eq!(error(".target sm_80\n\u{1}"), "line 2: unexpected byte 0x01");
    assert!(matches!(Device::new(DeviceConfig::default()).alloc(u64::MAX, Fill::Zero), Err(DeviceError::TooLarge { .. })));
    let _: LaunchError = LaunchError::Shape(String::new());
}
