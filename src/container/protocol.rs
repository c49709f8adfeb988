//! What clients and a supervisor say to each other: one message a packet, its first byte the kind.

use crate::sys::tty::Size;

/// From a client to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Send me the output from now on; my input is the container's if `stdin`.
    Attach {
        /// Whether input will come.
        stdin: bool,
    },
    /// Bytes for the standard input.
    Input(&'a [u8]),
    /// The end of the standard input.
    EndOfInput,
    /// The client's window.
    Resize(Size),
    /// Send this signal to the first process; one that a user sent to end it also ends restarting.
    Signal {
        /// Its number.
        signal: i32,
        /// Do not restart afterwards.
        final_one: bool,
    },
    /// Stop: this signal, and SIGKILL after so many seconds (negative: never).
    Stop {
        /// The first signal.
        signal: i32,
        /// Seconds.
        timeout: i64,
        /// It is started again at once: it stays even if it is to be removed at its end.
        restart: bool,
    },
    /// Let go of what holds published ports: they are free.
    FreePorts,
    /// Hold the ports of the descriptors that come with this, too.
    HoldPorts,
    /// I am leaving; that is no end of input.
    Detach,
}

/// From the supervisor to a client. Every client hears of the end; attached ones hear the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program runs.
    Started,
    /// It could not be started; the status and why.
    Failed(i32, &'a str),
    /// Bytes from the standard output, or from the terminal.
    Output(&'a [u8]),
    /// Bytes from the standard error.
    ErrorOutput(&'a [u8]),
    /// It ended with this status.
    Exited(i32),
    /// Something that the user should know.
    Warning(&'a str),
}

impl Request<'_> {
    /// As one packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Request::Attach { stdin } => out.extend([b'A', (*stdin).into()]),
            Request::Input(data) => {
                out.push(b'I');
                out.extend(*data);
            }
            Request::EndOfInput => out.push(b'E'),
            Request::Resize(size) => {
                out.push(b'W');
                out.extend(size.rows.to_ne_bytes());
                out.extend(size.columns.to_ne_bytes());
            }
            Request::Signal { signal, final_one } => {
                out.extend([b'K', (*final_one).into()]);
                out.extend(signal.to_ne_bytes());
            }
            Request::Stop { signal, timeout, restart } => {
                out.push(b'S');
                out.extend(signal.to_ne_bytes());
                out.extend(timeout.to_ne_bytes());
                out.push((*restart).into());
            }
            Request::FreePorts => out.push(b'F'),
            Request::HoldPorts => out.push(b'H'),
            Request::Detach => out.push(b'D'),
        }
        out
    }

    /// From one packet; `None` for what this version does not know.
    pub fn decode(packet: &[u8]) -> Option<Request<'_>> {
        let (kind, body) = packet.split_first()?;
        Some(match kind {
            b'A' => Request::Attach { stdin: *body.first()? != 0 },
            b'I' => Request::Input(body),
            b'E' => Request::EndOfInput,
            b'W' => {
                let rows = u16::from_ne_bytes(body.get(..2)?.try_into().ok()?);
                let columns = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
                Request::Resize(Size { rows, columns })
            }
            b'K' => {
                let signal = i32::from_ne_bytes(body.get(1..5)?.try_into().ok()?);
                Request::Signal { signal, final_one: *body.first()? != 0 }
            }
            b'S' => {
                let signal = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
                let timeout = i64::from_ne_bytes(body.get(4..12)?.try_into().ok()?);
                Request::Stop { signal, timeout, restart: body.get(12).is_some_and(|b| *b != 0) }
            }
            b'F' => Request::FreePorts,
            b'H' => Request::HoldPorts,
            b'D' => Request::Detach,
            _ => return None,
        })
    }
}

impl Event<'_> {
    /// As one packet.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = |kind: u8, body: &[u8]| [&[kind], body].concat();
        match self {
            Event::Started => vec![b's'],
            Event::Failed(status, text) => [b"f", &status.to_ne_bytes()[..], text.as_bytes()].concat(),
            Event::Output(data) => tagged(b'o', data),
            Event::ErrorOutput(data) => tagged(b'e', data),
            Event::Exited(status) => tagged(b'x', &status.to_ne_bytes()),
            Event::Warning(text) => tagged(b'w', text.as_bytes()),
        }
    }

    /// From one packet; `None` for what this version does not know.
    pub fn decode(packet: &[u8]) -> Option<Event<'_>> {
        let (kind, body) = packet.split_first()?;
        let status = || Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?));
        Some(match kind {
            b's' => Event::Started,
            b'f' => Event::Failed(status()?, std::str::from_utf8(body.get(4..)?).ok()?),
            b'o' => Event::Output(body),
            b'e' => Event::ErrorOutput(body),
            b'x' => Event::Exited(status()?),
            b'w' => Event::Warning(std::str::from_utf8(body).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_way() {
        let size = Size { rows: 50, columns: 132 };
        for request in [
            Request::Attach { stdin: true },
            Request::Input(b"x\0y"),
            Request::EndOfInput,
            Request::Resize(size),
            Request::Signal { signal: 15, final_one: true },
            Request::Stop { signal: 10, timeout: -1, restart: true },
            Request::FreePorts,
            Request::HoldPorts,
            Request::Detach,
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request.clone()));
        }
        for event in [
            Event::Started,
            Event::Failed(127, "no such"),
            Event::Output(b"\xff"),
            Event::ErrorOutput(b""),
            Event::Exited(-1),
            Event::Warning("no way out"),
        ] {
            assert_eq!(Event::decode(&event.encode()), Some(event.clone()));
        }
    }

    proptest! {
        #[test]
        fn no_packet_is_dangerous(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Request::decode(&packet), Event::decode(&packet));
        }
    }
}
