//! Asynchronous operations: each is an agent of its own from its issue until it was waited for.

use super::checker::{Checker, GroupKind, Op, OpId, Part, Token};
use super::clock::{Clock, Vector};
use super::history::How;
use super::rules::Viewer;

impl Checker {
    fn new_token(&mut self, how: How, before: &Vector) -> Token {
        let idle = &mut self.idle[usize::from(how.is_async())];
        // An agent can stand for a second operation only after everybody who will know of the second knows the first.
        for _ in 0..idle.len().min(8) {
            if let Some(token) = idle.pop_front() {
                if before.get(token.agent) > token.time {
                    return Token { time: token.time + 2, ..token };
                }
                idle.push_back(token);
            }
        }
        Token { agent: self.world.agent(true), time: 1 }
    }

    fn begin(&mut self, id: OpId, how: How, group: Option<GroupKind>, cta: usize, warp: usize, views: Vec<Viewer>) -> Token {
        let open = group.and_then(|kind| self.warp(cta, warp).open[kind as usize]);
        let token = match open {
            Some(token) => token,
            None => self.new_token(how, &views[0].clock.before),
        };
        if let Some(kind) = group {
            self.warp(cta, warp).open[kind as usize] = Some(token);
        }
        self.ops.insert(id, Op { token, cta, warp, views });
        token
    }

    /// A warp issues an operation.
    pub fn issue(&mut self, id: OpId, how: How, group: Option<GroupKind>, cta: usize, warp: usize) -> Token {
        let view = Viewer::new(self.warp(cta, warp).view.clock.clone());
        let token = self.begin(id, how, group, cta, warp, vec![view]);
        // What the warp does from now on is not behind the operation.
        self.tick(cta, warp);
        token
    }

    /// A warpgroup issues an operation: view 0 is what all of its warps have behind them, 1 to 4 are theirs.
    pub fn issue_warpgroup(&mut self, id: OpId, cta: usize, first_warp: usize) -> Token {
        let mut views: Vec<Clock> = (0..4).map(|i| self.warp(cta, first_warp + i).view.clock.clone()).collect();
        let mut common = views[0].clone();
        views[1..].iter().for_each(|view| common.meet(view));
        views.insert(0, common);
        let views = views.into_iter().map(Viewer::new).collect();
        let token = self.begin(id, How::Wgmma, Some(GroupKind::Wgmma), cta, first_warp, views);
        (0..4).for_each(|i| self.tick(cta, first_warp + i));
        token
    }

    /// An operation has happened.
    pub fn finish(&mut self, id: OpId, how: How, in_group: bool) {
        if let Some(op) = self.ops.remove(&id)
            && !in_group
        {
            self.retire(op.token, how.is_async());
        }
    }

    pub(super) fn retire(&mut self, token: Token, is_async: bool) {
        self.idle[usize::from(is_async)].push_back(token);
    }

    /// The group under way is closed.
    pub fn commit(&mut self, kind: GroupKind, cta: usize, warp: usize) {
        if let Some(token) = self.warp(cta, warp).open[kind as usize].take() {
            self.retire(token, kind != GroupKind::CpAsync);
        }
    }

    /// A warp has waited for an operation.
    pub fn waited(&mut self, cta: usize, warp: usize, token: Token, part: Part) {
        let time = token.time + u32::from(part == Part::All);
        self.warp(cta, warp).view.clock.before.raise(token.agent, time);
    }
}
