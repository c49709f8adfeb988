//! Terminals: raw mode that is always undone, window sizes, pseudo-terminals.

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// The window size of a terminal.
pub fn size(fd: impl AsFd) -> io::Result<Size> {
    let w = tcgetwinsize(fd)?;
    Ok(Size { rows: w.ws_row, columns: w.ws_col })
}

/// Tells a terminal its window size; its foreground processes get SIGWINCH.
pub fn set_size(fd: impl AsFd, size: Size) -> io::Result<()> {
    let w = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(fd, w)?)
}

/// A terminal in raw mode until this value is dropped.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    saved: Termios,
    shows_lines: bool,
}

impl Raw {
    /// Puts the terminal into raw mode.
    pub fn enter(terminal: impl AsFd) -> io::Result<Raw> {
        Raw::new(terminal, false)
    }

    /// Puts the terminal into raw mode, but lets it go on to begin each line at the left by itself.
    pub fn enter_for_input(terminal: impl AsFd) -> io::Result<Raw> {
        Raw::new(terminal, true)
    }

    fn new(terminal: impl AsFd, shows_lines: bool) -> io::Result<Raw> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let raw = Raw { saved: tcgetattr(&terminal)?, terminal, shows_lines };
        raw.again()?;
        Ok(raw)
    }

    /// Sets raw mode once more, for a shell that changed it while we were stopped.
    pub fn again(&self) -> io::Result<()> {
        let mut mode = self.saved.clone();
        mode.make_raw();
        if self.shows_lines {
            mode.output_modes = self.saved.output_modes;
        }
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &mode)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.saved);
    }
}

/// The other end of a pseudo-terminal whose master this is, without going through any path.
pub fn peer(master: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::pty::OpenptFlags;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// Keeps a pseudo-terminal from adding a carriage return to each newline: whoever shows its output does that himself.
pub fn unprocessed_newlines(terminal: impl AsFd) -> io::Result<()> {
    let mut mode = tcgetattr(&terminal)?;
    mode.output_modes.remove(rustix::termios::OutputModes::ONLCR);
    Ok(tcsetattr(terminal, OptionalActions::Now, &mode)?)
}

/// Starts a session with this terminal as its controlling one.
pub fn take_control(terminal: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

/// A terminal that does not show what is typed, until this value is dropped.
#[derive(Debug)]
pub struct Hidden {
    terminal: OwnedFd,
    saved: Termios,
}

impl Hidden {
    /// Stops the terminal from showing what is typed.
    pub fn begin(terminal: impl AsFd) -> io::Result<Hidden> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let saved = tcgetattr(&terminal)?;
        let mut mode = saved.clone();
        mode.local_modes.remove(rustix::termios::LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Now, &mode)?;
        Ok(Hidden { terminal, saved })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.saved);
    }
}
