//! What crosses the Unix socket beside the region: twins' file descriptors, and doorbells.
//!
//! The socket is `SOCK_SEQPACKET`: one message is one packet, so there is no framing. Control listens, the dataplane
//! connects. File descriptors ride along as `SCM_RIGHTS`, in the order of the labels of the message.
//!
//! ```text
//!  dataplane ── Hello{pid, epoch, more, twins} + fds ──► control     (repeated while `more`)
//!  dataplane ◄── Twin{label} + fd ────────────────────── control     (also to replace a twin)
//!  dataplane ◄── TwinGone{kind, slot} ────────────────── control
//!  dataplane ◄─► Doorbell{kind} ◄──────────────────────► control
//! ```

use crate::record::{name_bytes, name_text};

/// No message is longer.
pub const MESSAGE_BYTES_MOST: usize = 8192;

/// Most file descriptors of one message: `SCM_MAX_FD` of Linux.
pub const DESCRIPTORS_MOST: usize = 253;

/// What a twin is the twin of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TwinKind {
    /// The TAP of a port.
    Tap = 1,
    /// The TUN of a tunnel.
    Tun = 2,
}

/// Which twin a file descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TwinLabel {
    /// Of a port or of a tunnel.
    pub kind: TwinKind,
    /// Slot of the port or the tunnel.
    pub slot: u32,
    /// Name of the network device, NUL padded.
    pub name: [u8; 16],
}

impl TwinLabel {
    /// A label.
    pub fn new(kind: TwinKind, slot: u32, name: &str) -> TwinLabel {
        TwinLabel { kind, slot, name: name_bytes(name) }
    }

    /// Name of the network device.
    pub fn name(&self) -> &str {
        name_text(&self.name)
    }
}

/// Why the other side should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doorbell {
    /// Control wrote records.
    Changes = 1,
    /// The dataplane acknowledged records.
    Acks = 2,
    /// The dataplane put events.
    Events = 3,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The dataplane's first words, with the twins that it still holds from an earlier control: one fd per label.
    Hello {
        /// Its process number.
        pid: u32,
        /// Its epoch.
        epoch: u64,
        /// Another `Hello` with more twins follows.
        more: bool,
        /// At most [`DESCRIPTORS_MOST`].
        twins: Vec<TwinLabel>,
    },
    /// A twin, with its fd.
    Twin(TwinLabel),
    /// A twin is gone: close its fd.
    TwinGone {
        /// Its kind.
        kind: TwinKind,
        /// Its slot.
        slot: u32,
    },
    /// Look at the region.
    Doorbell(Doorbell),
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends too early, or goes on too long.
    #[error("the message has a wrong length of {0} bytes")]
    Length(usize),
    /// Its kind is unknown.
    #[error("the message has the unknown kind {0}")]
    Kind(u8),
    /// A field of it has an unknown value.
    #[error("the field {field} has the unknown value {value}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
}

const HELLO: u8 = 1;
const TWIN: u8 = 2;
const TWIN_GONE: u8 = 3;
const DOORBELL: u8 = 4;

impl Message {
    /// How many file descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Message::Hello { twins, .. } => twins.len(),
            Message::Twin(_) => 1,
            Message::TwinGone { .. } | Message::Doorbell(_) => 0,
        }
    }

    /// The bytes of the message. Integers are little-endian.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Hello { pid, epoch, more, twins } => {
                let mut bytes = vec![HELLO, u8::from(*more)];
                bytes.extend_from_slice(&pid.to_le_bytes());
                bytes.extend_from_slice(&epoch.to_le_bytes());
                for label in twins {
                    encode_label(label, &mut bytes);
                }
                bytes
            }
            Message::Twin(label) => {
                let mut bytes = vec![TWIN];
                encode_label(label, &mut bytes);
                bytes
            }
            Message::TwinGone { kind, slot } => {
                let mut bytes = vec![TWIN_GONE, *kind as u8];
                bytes.extend_from_slice(&slot.to_le_bytes());
                bytes
            }
            Message::Doorbell(kind) => vec![DOORBELL, *kind as u8],
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is not exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        let wrong_length = MessageError::Length(bytes.len());
        let (kind, body) = bytes.split_first().ok_or(wrong_length)?;
        match *kind {
            HELLO => {
                let (head, labels) = body.split_first_chunk::<13>().ok_or(wrong_length)?;
                let [more, pid0, pid1, pid2, pid3, epoch @ ..] = *head;
                let (labels, rest) = labels.as_chunks::<LABEL_BYTES>();
                if !rest.is_empty() || labels.len() > DESCRIPTORS_MOST {
                    return Err(wrong_length);
                }
                let more = match more {
                    0 => false,
                    1 => true,
                    value => return Err(MessageError::Field { field: "more", value }),
                };
                Ok(Message::Hello {
                    pid: u32::from_le_bytes([pid0, pid1, pid2, pid3]),
                    epoch: u64::from_le_bytes(epoch),
                    more,
                    twins: labels.iter().map(decode_label).collect::<Result<_, _>>()?,
                })
            }
            TWIN => Ok(Message::Twin(decode_label(body.try_into().map_err(|_| wrong_length)?)?)),
            TWIN_GONE => {
                let [kind, slot @ ..]: [u8; 5] = body.try_into().map_err(|_| wrong_length)?;
                Ok(Message::TwinGone { kind: twin_kind(kind)?, slot: u32::from_le_bytes(slot) })
            }
            DOORBELL => match body {
                [1] => Ok(Message::Doorbell(Doorbell::Changes)),
                [2] => Ok(Message::Doorbell(Doorbell::Acks)),
                [3] => Ok(Message::Doorbell(Doorbell::Events)),
                [value] => Err(MessageError::Field { field: "doorbell", value: *value }),
                _ => Err(wrong_length),
            },
            kind => Err(MessageError::Kind(kind)),
        }
    }
}

/// Kind, slot, name.
const LABEL_BYTES: usize = 1 + 4 + 16;

fn encode_label(label: &TwinLabel, bytes: &mut Vec<u8>) {
    bytes.push(label.kind as u8);
    bytes.extend_from_slice(&label.slot.to_le_bytes());
    bytes.extend_from_slice(&label.name);
}

fn decode_label(bytes: &[u8; LABEL_BYTES]) -> Result<TwinLabel, MessageError> {
    let [kind, slot0, slot1, slot2, slot3, name @ ..] = *bytes;
    Ok(TwinLabel { kind: twin_kind(kind)?, slot: u32::from_le_bytes([slot0, slot1, slot2, slot3]), name })
}

fn twin_kind(number: u8) -> Result<TwinKind, MessageError> {
    match number {
        1 => Ok(TwinKind::Tap),
        2 => Ok(TwinKind::Tun),
        value => Err(MessageError::Field { field: "twin kind", value }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label() -> impl Strategy<Value = TwinLabel> {
        (any::<bool>(), any::<u32>(), "[a-z0-9.]{1,15}").prop_map(|(tap, slot, name)| {
            TwinLabel::new(if tap { TwinKind::Tap } else { TwinKind::Tun }, slot, &name)
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        let hello = (any::<u32>(), any::<u64>(), any::<bool>(), proptest::collection::vec(label(), 0..254));
        prop_oneof![
            hello.prop_map(|(pid, epoch, more, twins)| Message::Hello { pid, epoch, more, twins }),
            label().prop_map(Message::Twin),
            label().prop_map(|label| Message::TwinGone { kind: label.kind, slot: label.slot }),
            prop_oneof![Just(Doorbell::Changes), Just(Doorbell::Acks), Just(Doorbell::Events)]
                .prop_map(Message::Doorbell),
        ]
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(message in message()) {
            let bytes = message.encode();
            prop_assert!(bytes.len() <= MESSAGE_BYTES_MOST);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_message_with_a_byte_more_or_less_is_refused(message in message()) {
            let mut bytes = message.encode();
            bytes.push(0);
            prop_assert!(Message::decode(&bytes).is_err());
            bytes.truncate(bytes.len() - 2);
            prop_assert!(Message::decode(&bytes).is_err());
        }

        #[test]
        fn what_is_read_from_any_bytes_is_written_back_as_those(
            bytes in proptest::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..80)
        ) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
