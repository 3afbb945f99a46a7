//! What the machine says to its host: frames on one port, and what they mean.
//!
//! A frame is a byte for the channel, four for the length (least significant first), and the content. Output of
//! commands travels in frames of its own, so nothing that a command prints can be taken for a message.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Channel {
    /// A [`Message`] as text.
    Control,
    /// What a command wrote to its standard output.
    Output,
    /// What it wrote to its standard error.
    Errors,
}

impl Channel {
    const ALL: [Channel; 3] = [Channel::Control, Channel::Output, Channel::Errors];
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// It could not be started, by this error number.
    NotStarted(i32),
}

impl Outcome {
    /// What a shell would say of it.
    pub(super) fn code(self) -> u8 {
        match self {
            Outcome::Exited(status) => status,
            Outcome::Killed(signal) => signal.saturating_add(128),
            Outcome::NotStarted(2) => 127,
            Outcome::NotStarted(_) => 126,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(status) => write!(f, "exit status: {status}"),
            Outcome::Killed(signal) => write!(f, "signal: {signal}"),
            Outcome::NotStarted(number) => {
                write!(f, "could not be started: {}", io::Error::from_raw_os_error(*number))
            }
        }
    }
}

/// What the machine's first process reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// The machine has started; commands follow.
    Ready,
    /// The command of this number is about to be started.
    Begin(usize),
    /// It ended.
    End(usize, Outcome),
    /// All commands have ended.
    Done,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Ready => f.write_str("ready"),
            Message::Begin(command) => write!(f, "begin {command}"),
            Message::End(command, Outcome::Exited(status)) => write!(f, "end {command} exited {status}"),
            Message::End(command, Outcome::Killed(signal)) => write!(f, "end {command} killed {signal}"),
            Message::End(command, Outcome::NotStarted(error)) => write!(f, "end {command} failed {error}"),
            Message::Done => f.write_str("done"),
        }
    }
}

impl Message {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Message> {
        let words: Vec<&str> = text.split(' ').collect();
        Some(match words[..] {
            ["ready"] => Message::Ready,
            ["done"] => Message::Done,
            ["begin", command] => Message::Begin(command.parse().ok()?),
            ["end", command, how, figure] => {
                let outcome = match how {
                    "exited" => Outcome::Exited(figure.parse().ok()?),
                    "killed" => Outcome::Killed(figure.parse().ok()?),
                    "failed" => Outcome::NotStarted(figure.parse().ok()?),
                    _ => return None,
                };
                Message::End(command.parse().ok()?, outcome)
            }
            _ => return None,
        })
    }
}

/// Writes a frame in one piece.
pub(super) fn write(to: &mut impl Write, channel: Channel, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(5 + content.len());
    frame.push(channel as u8);
    frame.extend(length.to_le_bytes());
    frame.extend(content);
    to.write_all(&frame)
}

/// Reads a frame, or nothing where the stream ends. A stream that ends within a frame is one whose machine ended there.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<(Channel, Vec<u8>)>> {
    /// No writer makes longer ones.
    const LONGEST: u32 = 1 << 20;
    let mut head = [0; 5];
    if !fill(from, &mut head)? {
        return Ok(None);
    }
    let [channel, length @ ..] = head;
    let length = u32::from_le_bytes(length);
    let channel = Channel::ALL.into_iter().find(|&known| known as u8 == channel);
    let Some(channel) = channel.filter(|_| length <= LONGEST) else {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("not a frame: {head:02x?}")));
    };
    let mut content = vec![0; length as usize];
    Ok(fill(from, &mut content)?.then_some((channel, content)))
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut stream = Vec::new();
        write(&mut stream, Channel::Output, b"one\n").unwrap();
        write(&mut stream, Channel::Errors, b"").unwrap();
        write(&mut stream, Channel::Control, b"done").unwrap();
        let mut from = stream.as_slice();
        assert_eq!(read(&mut from).unwrap(), Some((Channel::Output, b"one\n".to_vec())));
        assert_eq!(read(&mut from).unwrap(), Some((Channel::Errors, Vec::new())));
        assert_eq!(read(&mut from).unwrap(), Some((Channel::Control, b"done".to_vec())));
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_an_end() {
        let mut stream = Vec::new();
        write(&mut stream, Channel::Output, b"half").unwrap();
        assert_eq!(read(&mut &stream[..7]).unwrap(), None);
        assert_eq!(read(&mut &stream[..3]).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(read(&mut [9, 1, 0, 0, 0, 0].as_slice()).is_err());
        assert!(read(&mut [0, 0xff, 0xff, 0xff, 0xff].as_slice()).is_err());
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let messages = [
            Message::Ready,
            Message::Begin(3),
            Message::End(3, Outcome::Exited(7)),
            Message::End(4, Outcome::Killed(11)),
            Message::End(5, Outcome::NotStarted(2)),
            Message::Done,
        ];
        for message in messages {
            assert_eq!(Message::parse(&message.to_string()), Some(message));
        }
    }

    #[test]
    fn other_text_is_no_message() {
        for text in ["", "ready ", "begin", "begin x", "end 1 exited 256", "end 1 left 0", "end 1 exited 0 0"]
        {
            assert_eq!(Message::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Outcome::Exited(7).code(), 7);
        assert_eq!(Outcome::Killed(9).code(), 137);
        assert_eq!(Outcome::NotStarted(2).code(), 127);
        assert_eq!(Outcome::NotStarted(13).code(), 126);
    }
}
