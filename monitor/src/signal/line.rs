//! A line of text, built without allocating. Async-signal-safe.

/// A line under construction; what does not fit is dropped.
pub(crate) struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Line { bytes: [0; 160], length: 0 }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for &byte in text.as_bytes() {
            self.byte(byte);
        }
        self
    }

    pub(crate) fn decimal(&mut self, value: u64) -> &mut Self {
        self.digits(value, 10)
    }

    pub(crate) fn hexadecimal(&mut self, value: u64) -> &mut Self {
        self.text("0x").digits(value, 16)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Writes the line with one system call; a failure changes nothing that could still be done.
    pub(crate) fn write_to_stderr(&self) {
        // SAFETY: the bytes are ours and live until the call returns.
        unsafe { libc::write(libc::STDERR_FILENO, self.as_bytes().as_ptr().cast(), self.length) };
    }

    fn digits(&mut self, value: u64, base: u64) -> &mut Self {
        if value >= base {
            self.digits(value / base, base);
        }
        self.byte(b"0123456789abcdef"[(value % base) as usize]);
        self
    }

    fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let mut line = Line::new();
        line.text("at ").hexadecimal(0xdead_0000_beef).text(": ").decimal(0).text(", ").decimal(18_446_744);
        assert_eq!(line.as_bytes(), b"at 0xdead0000beef: 0, 18446744");
    }

    #[test]
    fn a_line_too_long_is_cut() {
        let mut line = Line::new();
        line.text(&"x".repeat(1000));
        assert_eq!(line.as_bytes().len(), 160);
    }
}
