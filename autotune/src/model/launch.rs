//! Time of a launch: its tiles over the SMs, device memory, the clock.

use super::block::BlockTime;
use super::power::clock;
use super::schedule;
use super::work::{Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::{Estimate, Term};

impl Work {
    /// The modelled time.
    pub fn estimate(&self, d: &DeviceProfile) -> Estimate {
        let co = d.coefficients();
        let (sms, tiles, blocks) = (f64::from(d.sms), self.tiles.count(), self.tiles.blocks());
        let launch = self.launches * d.launch_seconds * co.launch;
        if tiles < 1.0 || blocks <= 0.0 {
            let seconds = launch + self.beside;
            return Estimate { seconds, terms: vec![(Term::Launch, seconds)] };
        }
        let resident = self.resident.clamp(1.0, (tiles / sms).ceil().max(1.0));
        let t = BlockTime::new(d, &co, &self.block, tiles, self.stages);
        let fill = d.load_latency * co.latency;
        // The next tile's loads go on under this one's end where a CTA does both.
        let edges = self.edges + if self.persistent { 0.0 } else { fill };
        let once = self.start + if self.persistent { fill } else { 0.0 };
        let end = once + self.end(&t, sms, resident, edges);
        // What an SM would do if all of them did the same.
        let [each_blocks, each_tiles] = [blocks / sms, tiles / sms];
        let busy = each_blocks * t.together;
        let hz = clock(d, &co, each_blocks * t.tensor / end);
        let memory = self.memory / (d.memory_bytes * co.memory);
        let work = (end / hz).max(memory + fill / hz);
        let seconds = work + launch + self.beside;
        let alone = each_blocks * t.latency / resident;
        let around = each_tiles * edges / resident + once;
        let idle = (end - busy.max(alone + around)).max(0.0) / hz;
        let mut terms = vec![
            (Term::Tensor, each_blocks * t.tensor / hz),
            (Term::SharedMemory, each_blocks * t.shared / hz),
            (Term::L2, each_blocks * t.l2 / hz),
            (Term::Memory, memory),
            (Term::Pipe, each_blocks * t.pipe / hz),
            (Term::Control, each_blocks * t.control / hz),
            (Term::Latency, alone / hz),
            (Term::Edges, around / hz),
            (Term::Launch, launch + self.beside + idle),
        ];
        terms.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Estimate { seconds, terms }
    }

    /// Cycles until the last SM is done.
    fn end(&self, t: &BlockTime, sms: f64, resident: f64, edges: f64) -> f64 {
        // An SM's last tile has nobody who hides its end.
        let uncovered = if resident > 1.0 { edges } else { 0.0 };
        let workers = (sms * resident) as usize;
        // A worker's share of an SM on which all work.
        let all = |blocks: f64| t.period(blocks, resident, edges);
        match &self.tiles {
            Tiles::Equal { count, blocks } => {
                let most = (count / sms).ceil();
                let (rounds, left) = ((most / resident).floor(), most % resident);
                let last = if left > 0.0 { t.period(*blocks, left, edges) } else { 0.0 };
                rounds * all(*blocks) + last + uncovered
            }
            Tiles::Listed(runs) => schedule::greedy(runs.iter().map(|r| (all(r.0), r.1)), workers) + uncovered,
            Tiles::Dealt(runs) => schedule::dealt(runs.iter().map(|r| (all(r.0), r.1)), workers) + uncovered,
        }
    }
}
