//! The terminal: taken over while a run goes on, drawn by a thread of its own, and given back in
//! every way that a program ends.
//!
//! Who has figures calls [`Screen::update`], which never waits for the terminal: a slow one shows
//! fewer pictures. In raw mode Ctrl-C is a key like any other; it and `q` become a SIGINT to this
//! process, so that there is one way to end a run.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::board::Board;
use crate::draw::{Paint, draw};

/// Longest time from a key or a new board to what it does.
const LOOK: Duration = Duration::from_millis(100);
/// How long a terminal that takes nothing may hold up the program's end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the dashboard is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// The stream that is taken over: 0 none, 1 standard output, 2 standard error.
static TAKEN: AtomicU8 = AtomicU8::new(0);

/// Who draws at this moment. Nobody begins once the terminal was given back, and it is given back
/// between two pictures: a picture after that would lie over the shell, or over a panic's message.
static DRAWING: Mutex<Option<ThreadId>> = Mutex::new(None);
/// A picture is finished.
static DRAWN: Condvar = Condvar::new();

/// The terminal with a dashboard on it. Dropping it gives the terminal back.
pub struct Screen {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    board: Mutex<Board>,
    changed: AtomicBool,
    stop: AtomicBool,
}

impl Screen {
    /// Takes the terminal over: standard output if it is one, else standard error. None with the
    /// reason if neither is, or the terminal does not do it; nothing has changed then.
    ///
    /// # Errors
    /// A sentence for the person who asked for the dashboard.
    pub fn take(board: Board) -> Result<Self, String> {
        let stream = match (io::stdout().is_terminal(), io::stderr().is_terminal()) {
            (true, _) => Stream::Out,
            (false, true) => Stream::Err,
            (false, false) => {
                return Err("neither standard output nor standard error is a terminal".to_owned());
            }
        };
        let term = std::env::var("TERM").unwrap_or_default();
        if matches!(term.as_str(), "" | "dumb" | "unknown") {
            return Err(format!("the terminal can only write lines (TERM={term})"));
        }
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let no = |error: io::Error| format!("this terminal cannot show a dashboard: {error}");
        restore_on_panic();
        enable_raw_mode().map_err(no)?;
        TAKEN.store(if stream == Stream::Out { 1 } else { 2 }, Ordering::SeqCst);
        let made = writer(stream).and_then(|mut writer| {
            execute!(writer, EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(writer))
        });
        let terminal = made.map_err(|error| {
            restore();
            no(error)
        })?;
        let shared = Arc::new(Shared {
            board: Mutex::new(board),
            changed: AtomicBool::new(true),
            stop: AtomicBool::new(false),
        });
        let (say_ended, ended) = channel();
        let theirs = Arc::clone(&shared);
        let body = move || {
            show(terminal, &theirs, Paint::new(colours));
            let _ = say_ended.send(());
        };
        let thread = thread::Builder::new().name("screen".to_owned()).spawn(body);
        let thread = thread.map_err(|error| {
            restore();
            no(error)
        })?;
        Ok(Self { shared, ended, thread: Some(thread) })
    }

    /// Changes the board; the next picture shows it.
    pub fn update(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.shared.board.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.store(true, Ordering::Release);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // A terminal that is stopped (Ctrl-S) would hold the thread for ever.
        if self.ended.recv_timeout(PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
        restore();
    }
}

/// Whether a dashboard has the terminal.
pub fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst) != 0
}

/// Whether this process was started to outlive its terminal, as `nohup` does: a SIGHUP that is
/// ignored must stay so.
pub fn outlives_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, Signal::SIGHUP)
}

/// Whether `/proc/PID/status` (proc(5)) has a signal among those that are ignored.
fn ignores(status: &str, signal: Signal) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

/// Gives the terminal back, if it was taken; for ends that run no destructors.
pub fn restore() {
    let drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = match TAKEN.swap(0, Ordering::SeqCst) {
        0 => return,
        1 => Stream::Out,
        _ => Stream::Err,
    };
    let own = thread::current().id();
    // A terminal that is stopped would hold the picture for ever.
    let another = |drawing: &mut Option<ThreadId>| drawing.is_some_and(|who| who != own);
    drop(DRAWN.wait_timeout_while(drawing, PATIENCE, another));
    let _ = disable_raw_mode();
    let _ = writer(stream).and_then(|mut writer| {
        if takes_bytes(writer.get_ref()) {
            execute!(writer, LeaveAlternateScreen, Show)?;
        }
        Ok(())
    });
}

/// A way to the terminal that shares no lock with what the program prints: a picture that a stopped
/// terminal holds up would keep the lock.
fn writer(stream: Stream) -> io::Result<BufWriter<File>> {
    let own = match stream {
        Stream::Out => io::stdout().as_fd().try_clone_to_owned(),
        Stream::Err => io::stderr().as_fd().try_clone_to_owned(),
    };
    Ok(BufWriter::new(File::from(own?)))
}

/// Whether the terminal takes something before it tries the patience.
fn takes_bytes(terminal: &File) -> bool {
    let mut waits = [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
    poll(&mut waits, patience).is_ok_and(|ready| ready > 0)
}

/// Does what draws, unless the terminal was given back; none then.
fn while_taken<T>(draw: impl FnOnce() -> T) -> Option<T> {
    {
        let mut drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_taken() {
            return None;
        }
        *drawing = Some(thread::current().id());
    }
    let drawn = draw();
    *DRAWING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    DRAWN.notify_all();
    Some(drawn)
}

/// A panic's message must be readable.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

fn show(mut terminal: Terminal<CrosstermBackend<BufWriter<File>>>, shared: &Shared, paint: Paint) {
    // A panic elsewhere gives the terminal back, and its message must stay.
    while !shared.stop.load(Ordering::Acquire) && is_taken() {
        if shared.changed.swap(false, Ordering::AcqRel) {
            let board = shared.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let drawn = while_taken(|| {
                terminal
                    .draw(|frame| draw(&board, paint, frame.area(), frame.buffer_mut()))
                    .map(|_| ())
            });
            if !matches!(drawn, Some(Ok(()))) {
                // The terminal is gone; the run is not.
                return;
            }
        }
        match event::poll(LOOK) {
            Ok(true) => match event::read() {
                Ok(event) => take_event(&event, shared),
                Err(_) => return,
            },
            Ok(false) => {}
            Err(_) => return,
        }
    }
}

fn take_event(event: &Event, shared: &Shared) {
    if matches!(event, Event::Resize(..)) {
        shared.changed.store(true, Ordering::Release);
    }
    if asks_to_end(event) {
        shared.board.lock().unwrap_or_else(PoisonError::into_inner).ending = true;
        shared.changed.store(true, Ordering::Release);
        let _ = kill(Pid::this(), Signal::SIGINT);
    }
}

/// Whether an event is `q` or Ctrl-C.
fn asks_to_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind != KeyEventKind::Press {
        return false;
    }
    match key.code {
        KeyCode::Char('q' | 'Q') => true,
        KeyCode::Char('c' | 'C') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_and_ctrl_c_end_and_nothing_else_does() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(asks_to_end(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(asks_to_end(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!asks_to_end(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!asks_to_end(&key(KeyCode::Enter, KeyModifiers::NONE)));
        assert!(!asks_to_end(&Event::Resize(80, 24)));
    }

    #[test]
    fn a_hangup_that_is_ignored_is_seen() {
        let status = |mask| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000001001"), Signal::SIGHUP));
        assert!(!ignores(&status("0000000000001000"), Signal::SIGHUP));
        assert!(!ignores("", Signal::SIGHUP));
    }

    #[test]
    fn a_terminal_that_was_not_taken_is_left_alone() {
        restore();
        assert!(!is_taken());
    }
}
