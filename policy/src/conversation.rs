//! Both ends of a conversation judged together, and what decided in words.

use crate::explain;
use crate::tables::{Direction, PodIndex, Question, Tables, Verdict, VerdictReason};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// One end of a conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Its address.
    pub(crate) addr: IpAddr,
    /// The pod there; policies judge only pods.
    pub(crate) pod: Option<PodIndex>,
}

/// A conversation between two ends, judged by policy alone.
#[derive(Clone, Copy)]
pub(crate) struct Conversation<'a> {
    pub(crate) tables: &'a Tables,
    /// Who opens it.
    pub(crate) from: End,
    /// Who receives it.
    pub(crate) to: End,
    pub(crate) protocol: Protocol,
    /// The receiver's port; 0 for protocols without ports.
    pub(crate) port: u16,
    /// Names that the opener has looked up to find the receiver.
    pub(crate) names: &'a [Arc<str>],
}

impl<'a> Conversation<'a> {
    fn question(&self, direction: Direction) -> Option<Question<'a>> {
        let (subject, peer) = match direction {
            Direction::FromPod => (self.from.pod?, self.to.addr),
            Direction::ToPod => (self.to.pod?, self.from.addr),
        };
        Some(Question { direction, subject, peer, protocol: self.protocol, port: self.port, names: self.names })
    }

    /// What one end says; `None` if it is no pod.
    pub(crate) fn verdict(&self, direction: Direction) -> Option<Verdict> {
        self.question(direction).map(|question| self.tables.check(&question))
    }

    /// Whether both ends allow it.
    pub(crate) fn is_allowed(&self) -> bool {
        let allows = |direction| self.verdict(direction).is_none_or(|verdict| verdict.allowed);
        allows(Direction::FromPod) && allows(Direction::ToPod)
    }

    /// What decided: where it is denied the ends that deny it, else what allows it.
    pub(crate) fn reason(&self) -> String {
        self.told(|question| explain::judge(self.tables, question).rule)
    }

    /// The same for many ports at once, of which this conversation has one: of a denial by default only the policies, not what
    /// their rules lack for this port.
    pub(crate) fn reason_for_all(&self) -> String {
        self.told(|question| match self.tables.check(question).reason {
            VerdictReason::Isolated => {
                let policies = self.tables.isolating(question.direction, question.subject);
                let names: Vec<String> = policies.iter().map(|index| self.tables.policy(*index).to_string()).collect();
                Some(format!("isolated by {}, no rule allows it", names.join(", ")))
            }
            _ => explain::judge(self.tables, question).rule,
        })
    }

    fn told(&self, words: impl Fn(&Question<'a>) -> Option<String>) -> String {
        let ends = [Direction::FromPod, Direction::ToPod].into_iter().filter_map(|direction| {
            let question = self.question(direction)?;
            Some((self.tables.check(&question).allowed, question))
        });
        let ends: Vec<_> = ends.collect();
        let allowed = ends.iter().all(|(allows, _)| *allows);
        let told = ends.iter().filter(|(allows, _)| *allows == allowed).filter_map(|(_, question)| {
            let pod = self.tables.pod(question.subject);
            let end = if question.direction == Direction::FromPod { "egress" } else { "ingress" };
            Some(format!("{end} of {}/{}: {}", pod.namespace, pod.name, words(question)?))
        });
        let told: Vec<String> = told.collect();
        if told.is_empty() { "no policy decides it".to_owned() } else { told.join("; ") }
    }
}
