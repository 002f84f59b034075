//! Connections with layers: their handshakes, what they receive and send, and how they say
//! goodbye. Connections in clear never come here.

use std::io;

use latlog::{EventKind, Outcome};

use super::lists::{ANSWERING, HANDSHAKING};
use super::send::fields;
use super::session::{Sending, State};
use super::{Reading, Worker};
use crate::cli::End;
use crate::clock::Clock;
use crate::layer::{Failure, Layer, Secured};
use crate::ops::Op;
use crate::ring::{Op as RingOp, OpKind, RecvBuffer, Ring, SendBuffer};

impl<R: Ring, C: Clock> Worker<R, C> {
    /// TCP stands; there is more to agree upon before the first request.
    pub(super) fn begin_handshake(&mut self, session: u32) -> io::Result<()> {
        let target = usize::from(self.sessions[session as usize].target);
        let Some(wrapping) = &self.prepared[target].wrapping else { return Ok(()) };
        self.layers_begun += 1;
        let number = self.layers_begun << 32 | u64::from(self.index);
        let nonce = crate::chance::scramble(self.plan.seed ^ crate::chance::scramble(number));
        let begun = Layer::begin(wrapping, nonce);
        self.sessions[session as usize].state = State::Handshaking;
        self.enqueue(HANDSHAKING, session);
        match begun {
            Ok(layer) => {
                self.sessions[session as usize].layer = Some(Box::new(layer));
                self.send_output(session)
            }
            Err(failure) => self.layer_failed(session, &failure),
        }
    }

    /// Reads what a receive brought to a connection with layers.
    pub(super) fn read_layered(
        &mut self,
        session: u32,
        buffer: RecvBuffer,
        len: u32,
    ) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let Some(layer) = &mut s.layer else { return Ok(()) };
        let input = self.ring.received(buffer, len);
        debug_assert!(self.plain.is_empty(), "what was received before is read");
        let fed = layer.feed(input, &mut self.plain, &mut self.layers, &self.wire_limits);
        if let Ok(progress) = &fed
            && let Some(secured) = &progress.secured
        {
            self.secured(session, secured);
        }
        self.send_output(session)?;
        if !self.plain.is_empty() {
            self.reading = Some(Reading::Plain);
            let read = self.read_bytes(session, Reading::Plain);
            self.plain.clear();
            read?;
        }
        if self.sessions[session as usize].state == State::Closing {
            return Ok(());
        }
        let progress = match fed {
            Ok(progress) => progress,
            Err(failure) => return self.layer_failed(session, &failure),
        };
        self.perhaps_ready(session)?;
        match (progress.closed, self.sessions[session as usize].state) {
            (None, _) | (_, State::Closing) => Ok(()),
            (Some(0), _) | (_, State::Finishing) => self.at_eof(session),
            (Some(code), _) => self.lose(session, Outcome::Eof, code.into()),
        }
    }

    /// TLS is agreed upon.
    fn secured(&mut self, session: u32, secured: &Secured) {
        let s = &self.sessions[session as usize];
        let (target, took_ns) = (s.target, self.now_ns - s.since_ns);
        self.recorder.handshake(target, secured.resumed, took_ns);
        let detail = i32::from(secured.resumed);
        self.event(session, EventKind::Handshake, Outcome::Ok, detail, took_ns);
    }

    /// The handshake of a connection ended with it, if it was under way.
    pub(super) fn handshake_ended(&mut self, session: u32, outcome: Outcome, detail: i32) {
        let s = &self.sessions[session as usize];
        if s.state != State::Handshaking {
            return;
        }
        let (target, took_ns) = (s.target, self.now_ns - s.since_ns);
        self.targets.failed(target, self.now_ns);
        if s.layer.as_ref().is_none_or(|layer| layer.is_securing()) {
            self.recorder.handshake_failed(target);
            self.event(session, EventKind::Handshake, outcome, detail, took_ns);
        }
        self.keep_example(session, Op::Initialize, outcome, detail);
    }

    fn layer_failed(&mut self, session: u32, failure: &Failure) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        let op = s.current.map_or(Op::Initialize, |current| current.op);
        let Failure { outcome, detail, text } = failure;
        self.keep_explained(session, op, *outcome, *detail, text);
        self.lose(session, *outcome, *detail)
    }

    /// Goes on once all of the handshake is sent.
    fn perhaps_ready(&mut self, session: u32) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        let ready = |layer: &Layer| layer.is_ready() && !layer.has_output();
        let handshaking = s.state == State::Handshaking && s.sending.is_none();
        if handshaking && s.layer.as_ref().is_some_and(|layer| ready(layer)) {
            self.unqueue(session);
            self.ready(session)?;
        }
        Ok(())
    }

    /// Seals the request of a session from the outbox and sends it.
    pub(super) fn send_layered(&mut self, session: u32, buffer: SendBuffer) -> io::Result<()> {
        let role = self.role(session);
        let s = &self.sessions[session as usize];
        let op = s.current.as_ref().expect("what is in the outbox has a request").op;
        let prepared = &self.prepared[usize::from(s.target)];
        let template = prepared.requests.get(op).expect("begun only where the dialect has it");
        let fields =
            fields(role, session, &self.sessions, &self.helpers, &self.pool, prepared.dialect);
        self.rendered.clear();
        template.render(&mut self.rendered, &fields);
        let apart = self.goes_into_lane(op);
        let expectation = template.expectation(&fields).filter(|_| !apart);
        let s = &mut self.sessions[session as usize];
        if expectation.is_some_and(|expected| s.exchange.expect(expected).is_err()) {
            self.ring.release(buffer);
            return self.lose(session, Outcome::Violation, 0);
        }
        let layer = s.layer.as_mut().expect("it was looked at");
        layer.seal(&self.rendered, &mut self.layers);
        let behind = s.sending.is_some() || s.unsent;
        self.stamp_sent(session);
        if apart {
            self.take_lane(session);
        } else {
            self.enqueue(ANSWERING, session);
        }
        if behind {
            // Follows what the layer itself is sending.
            self.ring.release(buffer);
            return Ok(());
        }
        self.send_from(session, buffer)
    }

    /// Sends what a layer wants sent, unless something is being sent: it then follows.
    pub(super) fn send_output(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let waits = s.layer.as_ref().is_some_and(|layer| layer.has_output());
        if !waits || s.unsent || s.sending.is_some() {
            return Ok(());
        }
        match self.ring.take_send_buffer() {
            Some(buffer) => self.send_from(session, buffer),
            None => {
                self.recorder.now.send_buffer_waits += 1;
                s.unsent = true;
                self.unsent.push_back(session);
                Ok(())
            }
        }
    }

    /// Serves layers that found no send buffer.
    pub(super) fn send_unsent(&mut self) -> io::Result<()> {
        for _ in 0..self.unsent.len() {
            let Some(session) = self.unsent.pop_front() else { break };
            self.sessions[session as usize].unsent = false;
            self.send_output(session)?;
        }
        Ok(())
    }

    /// Fills a send buffer from a layer, and sends it.
    fn send_from(&mut self, session: u32, buffer: SendBuffer) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let into = self.ring.send_bytes_mut(buffer);
        let len = s.layer.as_mut().map_or(0, |layer| layer.take_output(into)) as u32;
        if len == 0 {
            self.ring.release(buffer);
            return Ok(());
        }
        s.sending = Some(Sending { buffer, from: 0, to: len, answer: false });
        s.armed.set(OpKind::Send);
        self.recorder.now.bytes_out += u64::from(len);
        self.submit(session, RingOp::Send { buffer, from: 0, to: len })
    }

    /// The kernel took all of a send buffer: goes on with what is left, in the same buffer.
    pub(super) fn sent_layered(&mut self, session: u32, buffer: SendBuffer) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        if s.layer.as_ref().is_some_and(|layer| layer.has_output()) {
            return self.send_from(session, buffer);
        }
        self.ring.release(buffer);
        self.all_sent(session)?;
        self.perhaps_ready(session)?;
        self.finish_behind(session)
    }

    /// Ends a session as its layers want it, and waits for the peer to do the same.
    pub(super) fn say_goodbye(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        s.state = State::Finishing;
        if let Some(layer) = &mut s.layer {
            layer.close();
        }
        self.enqueue(ANSWERING, session);
        self.send_output(session)?;
        self.finish_behind(session)
    }

    /// FIN follows a goodbye that is sent, where `--end close` wants it.
    fn finish_behind(&mut self, session: u32) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        let said = s.sending.is_none() && !s.unsent;
        let wanted = s.state == State::Finishing && self.plan.end == End::Close;
        if wanted && said && !s.armed.has(OpKind::Finish) {
            self.submit(session, RingOp::Finish)?;
            self.sessions[session as usize].armed.set(OpKind::Finish);
        }
        Ok(())
    }

    /// The connection is about to be dropped: tells the peer, if that costs no waiting.
    pub(super) fn drop_layer(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let Some(layer) = &mut s.layer else { return Ok(()) };
        if s.open && s.state != State::Finishing {
            if layer.is_ready() {
                layer.close();
            }
            self.send_output(session)?;
        }
        let s = &mut self.sessions[session as usize];
        s.layer = None;
        if std::mem::take(&mut s.unsent) {
            self.unsent.retain(|&waiting| waiting != session);
        }
        Ok(())
    }
}
