//! The plan as a server tells it to nodes. What arrives of a stream is a beginning of what was sent, in order.

use std::collections::BTreeMap;

use plfm_api::documents::{Followed, Told, may_tell, next_message, wanted};
use plfm_core::ids::NodeId;
use plfm_core::state::State;
use plfm_core::units::Timestamp;

use crate::ctx::{Ctx, Happening};
use crate::scenario::Glitch;

#[derive(Default)]
pub struct Streams(BTreeMap<usize, Stream>);

pub struct Stream {
    pub number: u64,
    pub node: NodeId,
    /// Of the node.
    pub life: u64,
    pub followed: Followed,
    pub told: Option<Told>,
    pub arrived_at: Timestamp,
}

impl Streams {
    pub fn open(&mut self, ctx: &mut Ctx, state: &State, node: usize, stream: Stream) {
        self.0.insert(node, stream);
        self.tell(ctx, state);
    }

    pub fn close(&mut self, ctx: &mut Ctx, node: usize) {
        if let Some(stream) = self.0.remove(&node) {
            breaks(ctx, node, &stream);
        }
    }

    pub fn all_break(self, ctx: &mut Ctx) {
        self.0.iter().for_each(|(node, stream)| breaks(ctx, *node, stream));
    }

    /// Tells each node what is new for it.
    pub fn tell(&mut self, ctx: &mut Ctx, state: &State) {
        let Some(position) = state.position() else { return };
        let mut broken = Vec::new();
        for (index, stream) in &mut self.0 {
            if !may_tell(position, stream.followed) {
                continue;
            }
            let wanted = wanted(state, stream.node);
            let Some(message) = next_message(position, stream.told.as_ref(), &wanted) else { continue };
            if ctx.glitch(*index, Glitch::PlanBroken) {
                broken.push(*index);
                continue;
            }
            stream.told = Some(Told { log: position.log, wanted });
            let late = if ctx.glitch(*index, Glitch::PlanLate) { 15_000 } else { 100 };
            stream.arrived_at = (ctx.now() + ctx.ms(1..late)).max(stream.arrived_at);
            let arrives = |message| Happening::PlanArrives {
                node: *index,
                life: stream.life,
                stream: stream.number,
                message: Box::new(message),
            };
            if ctx.glitch(*index, Glitch::PlanDoubled) {
                let again = stream.arrived_at + ctx.ms(0..20_000);
                ctx.queue.at(again, arrives(message.clone()));
            }
            ctx.queue.at(stream.arrived_at, arrives(message));
        }
        broken.into_iter().for_each(|index| self.close(ctx, index));
    }
}

/// The node notices after a while.
fn breaks(ctx: &mut Ctx, node: usize, stream: &Stream) {
    ctx.soon(10..10_000, Happening::StreamBreaks { node, life: stream.life, stream: stream.number });
}
