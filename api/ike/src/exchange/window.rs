//! Windows of size one in each direction.

use super::Retransmission;
use crate::crypto::Datagrams;

/// Our requests: at most one is outstanding.
pub(crate) struct SendWindow<T> {
    next_id: u32,
    outstanding: Option<Outstanding<T>>,
}

struct Outstanding<T> {
    message_id: u32,
    retransmission: Retransmission,
    task: T,
}

impl<T> SendWindow<T> {
    pub(crate) fn new(next_id: u32) -> Self {
        Self { next_id, outstanding: None }
    }

    /// A window whose last request, before `next_id`, is sent again.
    pub(crate) fn resumed(next_id: u32, retransmission: Retransmission, task: T) -> Self {
        let message_id = next_id.saturating_sub(1);
        Self { next_id, outstanding: Some(Outstanding { message_id, retransmission, task }) }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.is_none()
    }

    /// The id of the request that is to be sent next.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Takes note of a request with the id that [`SendWindow::next_id`] gave.
    pub(crate) fn sent(&mut self, retransmission: Retransmission, task: T) {
        self.outstanding = Some(Outstanding { message_id: self.next_id, retransmission, task });
        self.next_id = self.next_id.saturating_add(1);
    }

    pub(crate) fn retransmission(&mut self) -> Option<&mut Retransmission> {
        self.outstanding.as_mut().map(|outstanding| &mut outstanding.retransmission)
    }

    pub(crate) fn deadline(&self) -> Option<std::time::Instant> {
        self.outstanding.as_ref().map(|outstanding| outstanding.retransmission.next_at())
    }

    pub(crate) fn task(&self) -> Option<&T> {
        self.outstanding.as_ref().map(|outstanding| &outstanding.task)
    }

    pub(crate) fn task_mut(&mut self) -> Option<&mut T> {
        self.outstanding.as_mut().map(|outstanding| &mut outstanding.task)
    }

    /// The outstanding request as it was sent.
    pub(crate) fn datagrams(&self) -> Option<&Datagrams> {
        self.outstanding.as_ref().map(|outstanding| outstanding.retransmission.datagrams())
    }

    /// Whether a response with this id is awaited.
    pub(crate) fn awaits(&self, message_id: u32) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| outstanding.message_id == message_id)
    }

    /// The task whose authentic response has come.
    pub(crate) fn answered(&mut self) -> Option<T> {
        self.outstanding.take().map(|outstanding| outstanding.task)
    }
}

/// The peer's requests: the next id, and the last response, kept as it was sent.
pub(crate) struct ReceiveWindow {
    next_id: u32,
    response: Option<Datagrams>,
}

/// What a request's id means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Receive<'a> {
    /// The next request: to be processed if authentic.
    New,
    /// The last one again: its response is to be sent again.
    Repeated(&'a Datagrams),
    /// The last one again, while its response is not ready.
    Pending,
    /// Out of the window.
    Outside,
}

impl ReceiveWindow {
    pub(crate) fn new(next_id: u32) -> Self {
        Self { next_id, response: None }
    }

    /// A window that answered the request before `next_id` with these datagrams, if there was one.
    pub(crate) fn resumed(next_id: u32, response: Datagrams) -> Self {
        Self { next_id, response: Some(response).filter(|response| !response.is_empty()) }
    }

    /// The id of the request that is awaited next.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The response to the request accepted last.
    pub(crate) fn response(&self) -> Option<&Datagrams> {
        self.response.as_ref()
    }

    pub(crate) fn classify(&self, message_id: u32) -> Receive<'_> {
        if message_id == self.next_id {
            Receive::New
        } else if Some(message_id) == self.next_id.checked_sub(1) {
            self.response.as_ref().map_or(Receive::Pending, Receive::Repeated)
        } else {
            Receive::Outside
        }
    }

    /// Takes the id of an authentic request out of the window.
    pub(crate) fn accept(&mut self) {
        self.next_id = self.next_id.saturating_add(1);
        self.response = None;
    }

    /// Keeps the response to the request accepted last.
    pub(crate) fn respond(&mut self, datagrams: Datagrams) {
        self.response = Some(datagrams);
    }

    /// The id of the request accepted last.
    pub(crate) fn last_id(&self) -> u32 {
        self.next_id.saturating_sub(1)
    }

    /// The request accepted last has no response yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.next_id > 0 && self.response.is_none()
    }
}
