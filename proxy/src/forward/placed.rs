//! Requests without a pin: the best pod, or the next one; and the pin of what comes of it.

use std::rc::Rc;

use http::{Request, Response, request};

use super::answer::{Call, NotPinned};
use super::answer_to;
use super::body::ResponseBody;
use super::orphan::{OrphanHead, Unrevealed};
use super::send::{Sent, send, to_pod};
use crate::errors::Answer;
use crate::metrics::Event;
use crate::place::Placed;
use crate::pods::{PodId, Target};
use crate::route::Kind;
use crate::session::{Pin, PinMode, PinOutcome, SessionKey, UnpinReason};
use crate::upstream::{Failure, PodConnection, RequestBody};
use crate::worker::Placement;

impl Call {
    /// To the best pod. A session in the response is pinned before any of it is passed on.
    pub(super) async fn place(self, head: request::Parts, mut body: RequestBody) -> Response<ResponseBody> {
        if !self.expects {
            body.fetch().await;
        }
        let orphan = (self.kind == Kind::Post && !self.sessionless).then(|| OrphanHead::of(&head));
        let mut slot = Some(to_pod(head, body));
        let (sent, target, placement) = match self.send_to_best(&mut slot).await {
            Ok(found) => found,
            Err(answer) => return self.answer(answer, slot.map(Request::into_body)).await,
        };
        let pod = placement.pod;
        let given = match self.given(sent.response.headers()) {
            Ok(given) => given,
            Err(answer) => return self.answer(answer, None).await,
        };
        let Some(id) = given else {
            let failed = sent.response.status().is_server_error() && self.kind == Kind::Post;
            placement.ended(if failed { Placed::Failed } else { Placed::NoSession });
            return self.pass(sent, pod);
        };
        let key = self.shared().sessions.key(&id.value);
        // A server may give the same session to everybody: then others have it.
        let is_new = self.shared().sessions.find_cached(&key).is_none();
        let end = orphan.zip(Self::orphan_header(&id)).filter(|_| is_new);
        let end = end.map(|(head, session)| (head, target, session));
        let worker = Rc::clone(self.worker());
        let mut session = Unrevealed { worker, key, pod, may_be_pinned: is_new, end };
        if let Err(NotPinned { answer, may_arrive }) = self.pin(&key, pod).await {
            session.may_be_pinned &= may_arrive;
            if answer == Answer::SessionConflict {
                session.settle();
            }
            return self.answer(answer, None).await;
        }
        session.settle();
        placement.ended(Placed::Pinned);
        self.tracked.belongs_to(key, Pin { pod, path: self.path() });
        self.pass(sent, pod)
    }

    /// Sends to the best pod that accepts a connection.
    async fn send_to_best(&self, slot: &mut Option<Request<RequestBody>>) -> Result<(Sent, Target, Placement), Answer> {
        let mut tried: Vec<PodId> = Vec::new();
        loop {
            let Some(placement) = self.next_best(&tried, self.sessionless).await else { return Err(Answer::NoPod) };
            tried.push(placement.pod);
            // Between two looks the pod may have left.
            let Some(target) = self.worker().target(placement.pod) else { continue };
            match send(self.worker(), placement.pod, target, slot).await {
                Ok(sent) => return Ok((sent, target, placement)),
                Err(failure) => {
                    if failure.is_the_pods() {
                        placement.ended(Placed::Failed);
                    }
                    if !matches!(failure, Failure::Refused(_)) || slot.is_none() {
                        return Err(answer_to(&failure));
                    }
                }
            }
        }
    }

    /// The best pod that was not tried yet. Where none is ready at all, the next one that becomes so, within limits.
    async fn next_best(&self, tried: &[PodId], sessionless: bool) -> Option<Placement> {
        let placement = self.worker().place(tried, sessionless);
        if placement.is_some() || !tried.is_empty() {
            return placement;
        }
        Box::pin(self.shared().pods.wait_for_ready()).await;
        self.worker().place(tried, sessionless)
    }

    /// Pins the client's own id to the best pod, or follows whoever was first, then goes there.
    pub(super) async fn claim(
        self,
        key: SessionKey,
        head: request::Parts,
        body: RequestBody,
    ) -> Response<ResponseBody> {
        let (mut tried, mut mode) = (Vec::new(), PinMode::First);
        let mut slot = Some((head, body));
        let answer = loop {
            let Some(placement) = self.next_best(&tried, false).await else { break Answer::NoPod };
            let pod = placement.pod;
            let (pod, mine) = match self.shared().sessions.pin(&key, pod, self.path(), mode).await {
                PinOutcome::Pinned => (pod, true),
                PinOutcome::AlreadyPinned(winner) => (winner, false),
                PinOutcome::Unavailable | PinOutcome::NotSent => break Answer::NotStored,
                PinOutcome::Full => break Answer::TooManySessions,
            };
            if mine && !self.accepts(pod).await && tried.len() < u16::MAX.into() {
                placement.ended(Placed::Failed);
                tried.push(pod);
                mode = PinMode::Replace(pod);
                continue;
            }
            placement.ended(if mine { Placed::Pinned } else { Placed::NoSession });
            let Some((head, body)) = slot.take() else { break Answer::PodBroken };
            let path = self.path();
            return self.send_pinned(Pin { pod, path }, head, body).await;
        };
        if let PinMode::Replace(refused) = mode {
            // No session was ever there, and another pod may accept the next time.
            self.shared().sessions.unpin(&key, refused, UnpinReason::Refused).await;
        }
        self.answer(answer, slot.map(|(_, body)| body)).await
    }

    /// Whether a pod accepts connections; the connection is kept for the request.
    async fn accepts(&self, pod: PodId) -> bool {
        let Some(target) = self.worker().target(pod) else { return false };
        if target.h2c {
            return self.worker().h2.get(pod, target.address).await.is_ok();
        }
        let connection = match self.worker().idle(pod, target.address) {
            Some(connection) => Ok(connection),
            None => PodConnection::open(target.address).await,
        };
        match connection {
            Ok(connection) => {
                self.worker().keep(pod, connection, None);
                true
            }
            Err(_) => {
                self.worker().counters().event(Event::PodRefused);
                false
            }
        }
    }
}
