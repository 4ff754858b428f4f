//! A growing buffer whose length fields are patched when their content is complete.

/// Writes big-endian fields.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// One that does not move its bytes while they are no more than this: a move would leave a copy behind.
    pub(crate) fn with_capacity(len_bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(len_bytes) }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes bytes behind a 32-bit count of them.
    pub(crate) fn counted(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes(bytes);
    }

    /// Writes a 16-bit length field and `content`; the field covers itself, `header_bytes` before it and the
    /// content. What does not fit is saturated: no message that long leaves the engine.
    pub(crate) fn with_length(&mut self, header_bytes: usize, content: impl FnOnce(&mut Self)) {
        let field = self.bytes.len();
        self.u16(0);
        content(self);
        let length = self.bytes.len().saturating_sub(field).saturating_add(header_bytes);
        let encoded = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(field..).and_then(|tail| tail.first_chunk_mut::<2>()) {
            *place = encoded;
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
