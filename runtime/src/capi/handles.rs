//! What stands behind the opaque pointers, and each thread's last error.

use std::cell::RefCell;
use std::ffi::CString;
use std::sync::Arc;

use crate::cuda::CudaDevice;
use crate::dispatch::PlanIndex;
use crate::engine::{Engine, Launchable, Problem};
use crate::expr::Vars;

use super::{Failure, Gemm, TW_UNFIT, vars};

thread_local! {
    pub(super) static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// `tw_pack`.
pub struct PackHandle {
    /// Shared with the ops, so that closing the pack leaves them valid.
    pub(super) engine: Arc<Engine<CudaDevice>>,
    pub(super) manifest_hash: CString,
    pub(super) plan_ids: Vec<CString>,
}

/// `tw_op`.
pub struct OpHandle {
    /// First, so that it is dropped before the engine.
    pub(super) ready: Launchable<CudaDevice>,
    pub(super) texts: Vec<OpTexts>,
    pub(super) engine: Arc<Engine<CudaDevice>>,
}

/// A tensor's texts for C.
pub(super) struct OpTexts {
    pub(super) name: CString,
    pub(super) dtype: CString,
}

impl PackHandle {
    pub(super) fn new(engine: Engine<CudaDevice>) -> Self {
        PackHandle {
            manifest_hash: c_text(engine.pack().manifest_blake3()),
            plan_ids: engine.pack().manifest().plans.iter().map(|plan| c_text(&plan.id)).collect(),
            engine: Arc::new(engine),
        }
    }

    pub(super) fn plan(&self, id: &str) -> Result<PlanIndex, Failure> {
        let found = self.engine.pack().manifest().plan(id);
        let index = found.ok_or_else(|| Failure(TW_UNFIT, format!("no plan `{id}` in this pack")))?;
        Ok(PlanIndex(index as u32))
    }

    pub(super) fn prepare(&self, plan: PlanIndex, problem: &Gemm) -> Result<OpHandle, Failure> {
        // An alpha of 1 may be left out; any other one that the plan would ignore is refused by `prepare`.
        let takes_alpha = self.engine.scalars(plan)?.contains(&"alpha");
        let alpha = [("alpha", problem.alpha)];
        let scalars: &[(&str, f32)] = if takes_alpha || problem.alpha != 1.0 { &alpha } else { &[] };
        self.ready(plan, vars(problem)?, scalars)
    }

    pub(super) fn ready(&self, plan: PlanIndex, vars: Vars, scalars: &[(&str, f32)]) -> Result<OpHandle, Failure> {
        let ready = self.engine.prepare(plan, &Problem { vars, scalars })?;
        let texts = ready.tensors().iter();
        let texts = texts.map(|info| OpTexts { name: c_text(&info.name), dtype: c_text(info.dtype.name()) }).collect();
        Ok(OpHandle { ready, texts, engine: Arc::clone(&self.engine) })
    }
}

/// Keeps `why` for `tw_last_error` of this thread.
pub(super) fn remember(why: &str) {
    // Fails only while the thread ends, when nobody can ask any more.
    let _ = LAST_ERROR.try_with(|text| *text.borrow_mut() = c_text(why));
}

/// A zero byte inside would end the text early; a space stands for it.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
