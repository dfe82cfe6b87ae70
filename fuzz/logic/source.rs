//! What a fuzzer's bytes say, one after the other. When there are no more, they are zeros.

/// The bytes that are left.
pub(crate) struct Source<'a>(pub(crate) &'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below that, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// So many bytes, or what is left.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A frame: a byte that counts, and so many bytes. The highest counts repeat one byte some hundred times.
    #[allow(dead_code, reason = "not all that read have frames")]
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        match self.byte() {
            many @ 0xf0.. => vec![self.byte(); 64 * usize::from(many - 0xef)],
            count => self.bytes(count.into()).to_vec(),
        }
    }
}
