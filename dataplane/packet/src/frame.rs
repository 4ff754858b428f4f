//! The frame: one packet in one contiguous buffer, with room in front and behind.

/// A packet buffer that the stages read, grow and shrink in place. Dropping it frees it.
pub trait Frame: Sized {
    /// The packet's bytes.
    fn bytes(&self) -> &[u8];

    /// The packet's bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the packet by `len` bytes in front and gives these `len` bytes, whose content is whatever was there;
    /// `None`, and no change, when the headroom is smaller.
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Grows the packet by `len` bytes behind and gives these `len` bytes, whose content is whatever was there; `None`,
    /// and no change, when the tailroom is smaller.
    fn append(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Takes `len` bytes off the front; `false`, and no change, when the packet is shorter.
    #[must_use]
    fn trim_front(&mut self, len: usize) -> bool;

    /// Takes `len` bytes off the end; `false`, and no change, when the packet is shorter.
    #[must_use]
    fn trim_back(&mut self, len: usize) -> bool;

    /// Bytes by which [`Frame::prepend`] can grow the packet.
    fn headroom(&self) -> usize;

    /// Bytes by which [`Frame::append`] can grow the packet.
    fn tailroom(&self) -> usize;

    /// What travels with the frame from one thread to another.
    fn meta(&self) -> &Meta;

    /// What travels with the frame, to be changed.
    fn meta_mut(&mut self) -> &mut Meta;

    /// An empty frame of the same kind (from the same pool) with its usual headroom; `None` when there is none.
    fn sibling(&self) -> Option<Self>;

    /// Asks the memory system for the first bytes of the packet and for what the calls above touch; a hint.
    fn prefetch(&self) {}
}

/// What travels with a frame between the worker and the host thread: the twin that it goes to, or that it came by.
///
/// Forwarded packets never touch it. All zero is a valid value, as a fresh buffer has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The twin.
    pub twin: Twin,
}

/// A twin: the Linux interface that stands for a port or for a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Twin {
    /// What it stands for.
    pub kind: TwinKind,
    /// Slot of the port or the tunnel.
    pub slot: u32,
}

impl Twin {
    /// The TAP twin of a port: it carries Ethernet frames.
    pub const fn tap(port: u32) -> Self {
        Self { kind: TwinKind::Tap, slot: port }
    }

    /// The TUN twin of a tunnel: it carries IP packets.
    pub const fn tun(tunnel: u32) -> Self {
        Self { kind: TwinKind::Tun, slot: tunnel }
    }
}

/// The kind of a twin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TwinKind {
    /// Of a port; Ethernet frames.
    #[default]
    Tap = 0,
    /// Of a tunnel; IP packets.
    Tun = 1,
}
