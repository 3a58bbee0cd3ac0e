//! A queue in front of a file: whoever writes never waits.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::telemetry::metric::Counter;
use crate::telemetry::page;

/// Lines that wait to be written.
const QUEUE: usize = 8_192;
/// How long they may be all together: who calls chooses how long a path is, and may choose many.
const LONGEST: usize = 8 * 1024 * 1024;
/// How much is written to the file at once.
const BLOCK: usize = 64 * 1024;
/// How long a line waits for company. Whoever writes wakes the thread only if it sleeps for want of lines: at most once in so
/// long, not for each line.
const GATHERING: Duration = Duration::from_millis(5);
/// How often it is looked whether the file is still the one that its name leads to.
const LOOK: Duration = Duration::from_secs(1);

/// What became of lines. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct LogCounts {
    written: Counter,
    dropped: Counter,
}

/// A bounded queue in front of a file, and a thread that empties it. Clones write to the same.
#[derive(Clone, Debug)]
pub struct LineWriter {
    queue: SyncSender<Message>,
    /// Of the lines in the queue, how many bytes they are. A hint: nothing is told by it but that there is room.
    waiting: Arc<AtomicUsize>,
    counts: LogCounts,
}

#[derive(Debug)]
enum Message {
    Line(Bytes),
    /// Open the file anew: it was moved away.
    Reopen,
    /// Say when everything before has been written.
    Flush(SyncSender<()>),
}

/// The files that one mesh writes to.
#[derive(Debug)]
pub(in crate::telemetry) struct LogBook {
    writers: Mutex<HashMap<Arc<str>, LineWriter>>,
    counts: LogCounts,
}

impl LogCounts {
    /// How many lines were written.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// How many lines were lost, because the queue was full or the file could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    pub(in crate::telemetry) fn new(written: Counter, dropped: Counter) -> Self {
        Self { written, dropped }
    }
}

#[cfg(feature = "otlp")]
impl crate::telemetry::export::Tally for LogCounts {
    fn arrived(&self, many: u64) {
        self.written.inc_by(many);
    }

    fn lost(&self, many: u64) {
        self.dropped.inc_by(many);
    }
}

impl LogBook {
    pub(in crate::telemetry) fn new(counts: LogCounts) -> Self {
        Self {
            writers: Mutex::default(),
            counts,
        }
    }

    /// The writer to a file, the same for all who ask.
    pub(in crate::telemetry) fn writer(&self, path: &Arc<str>) -> LineWriter {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || LineWriter::open(path, self.counts.clone());
        writers.entry(Arc::clone(path)).or_insert_with(open).clone()
    }

    pub(in crate::telemetry) fn counts(&self) -> &LogCounts {
        &self.counts
    }

    pub(in crate::telemetry) fn reopen(&self) {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        for writer in writers.values() {
            // A full queue will be looked after by the next look at the name.
            let _ = writer.queue.try_send(Message::Reopen);
        }
    }

    /// Waits until everything is written, at most this long.
    pub(in crate::telemetry) fn flush(&self, patience: Duration) {
        let writers: Vec<_> = {
            let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.values().cloned().collect()
        };
        let until = Instant::now() + patience;
        for writer in writers {
            let (done, heard) = sync_channel(1);
            let mut message = Message::Flush(done);
            // What is full now is being emptied.
            while let Err(TrySendError::Full(back)) = writer.queue.try_send(message) {
                if Instant::now() >= until {
                    return;
                }
                message = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = heard.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl LineWriter {
    fn open(path: &Arc<str>, counts: LogCounts) -> Self {
        let (queue, lines) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let target = Target::new(path, Arc::clone(&waiting), counts.clone());
        let spawned = std::thread::Builder::new()
            .name("inmesh-log".to_owned())
            .spawn(move || target.run(&lines));
        if let Err(error) = spawned {
            // The receiver is gone with the thread: every line will count as dropped.
            tracing::error!(%error, path = &**path, "no thread to write the access log");
        }
        Self {
            queue,
            waiting,
            counts,
        }
    }

    /// Writes a line, or counts it as dropped if it would have to wait.
    pub fn write(&self, line: impl Into<Bytes>) {
        let line = line.into();
        let length = line.len();
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before + length > LONGEST || self.queue.try_send(Message::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.inc();
        }
    }

    /// As [`LineWriter::write`], of a line that is written now, behind what is there.
    pub(in crate::telemetry) fn write_with(&self, line: impl FnOnce(&mut String)) {
        self.write(page::line(line));
    }
}

/// The thread's side.
struct Target {
    path: Arc<str>,
    out: Option<Out>,
    looked: Instant,
    waiting: Arc<AtomicUsize>,
    /// How many bytes were taken from there, and not said so yet.
    taken: usize,
    counts: LogCounts,
    /// Lines of which it is not certain yet that they were written.
    pending: u64,
    /// Whether the operator was told that the file cannot be written.
    told: bool,
}

struct Out {
    write: BufWriter<Box<dyn Write + Send>>,
    /// The file behind it, if it is one that has a name.
    inode: Option<u64>,
}

impl Target {
    fn new(path: &Arc<str>, waiting: Arc<AtomicUsize>, counts: LogCounts) -> Self {
        Self {
            path: Arc::clone(path),
            out: None,
            looked: Instant::now(),
            waiting,
            taken: 0,
            counts,
            pending: 0,
            told: false,
        }
    }

    /// Writes until nobody can write any more.
    fn run(mut self, lines: &Receiver<Message>) {
        loop {
            // All that is there goes out at once; then what has gone out is made sure of.
            let next = match lines.try_recv() {
                Ok(message) => Ok(message),
                Err(_) => {
                    self.flush();
                    let first = lines.recv_timeout(Duration::from_secs(3600));
                    if let Ok(Message::Line(_)) = first {
                        std::thread::sleep(GATHERING);
                    }
                    first
                }
            };
            match next {
                Ok(Message::Line(line)) => self.line(&line),
                Ok(Message::Reopen) => self.close(),
                Ok(Message::Flush(done)) => {
                    self.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.taken += line.len();
        if self.pending == 0 || self.taken >= BLOCK {
            self.make_room();
            self.look();
        }
        self.pending += 1;
        let written = self.out().and_then(|out| out.write_all(line));
        if let Err(error) = written {
            self.failed(&error);
        }
    }

    /// Lets go of a file that was moved away.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if self
            .out
            .as_ref()
            .is_some_and(|out| out.inode != inode(&self.path))
        {
            self.close();
        }
    }

    /// Says that there is room again. In large parts, because all who write look at it.
    fn make_room(&mut self) {
        self.waiting
            .fetch_sub(std::mem::take(&mut self.taken), Ordering::Relaxed);
    }

    fn flush(&mut self) {
        self.make_room();
        match self.out.as_mut().map(|out| out.write.flush()) {
            Some(Err(error)) => self.failed(&error),
            _ => {
                self.counts.written.inc_by(self.pending);
                self.pending = 0;
            }
        }
    }

    /// Lets go of the file; the next line opens what its name leads to then.
    fn close(&mut self) {
        self.flush();
        self.out = None;
    }

    fn failed(&mut self, error: &io::Error) {
        self.counts.dropped.inc_by(self.pending);
        self.pending = 0;
        self.out = None;
        if !self.told {
            tracing::error!(%error, path = &*self.path, "the access log cannot be written; lines are lost");
            self.told = true;
        }
    }

    fn out(&mut self) -> io::Result<&mut BufWriter<Box<dyn Write + Send>>> {
        if self.out.is_none() {
            let out = open(&self.path)?;
            self.told = false;
            self.out = Some(out);
        }
        match &mut self.out {
            Some(out) => Ok(&mut out.write),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn open(path: &str) -> io::Result<Out> {
    let write: Box<dyn Write + Send> = match path {
        "/dev/stdout" => Box::new(io::stdout()),
        "/dev/stderr" => Box::new(io::stderr()),
        path => {
            let file: File = OpenOptions::new().create(true).append(true).open(path)?;
            return Ok(Out {
                inode: inode(path),
                write: BufWriter::with_capacity(BLOCK, Box::new(file)),
            });
        }
    };
    Ok(Out {
        write: BufWriter::with_capacity(BLOCK, write),
        inode: None,
    })
}

/// What a name leads to, so that a file that was moved away is noticed.
#[cfg(unix)]
fn inode(path: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;

    if path.starts_with("/dev/") {
        return None;
    }
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &str) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_find_no_room_though_they_are_few() {
        // Nobody reads.
        let (queue, _lines) = sync_channel(QUEUE);
        let writer = LineWriter {
            queue,
            waiting: Arc::default(),
            counts: LogCounts::default(),
        };
        let long = Bytes::from(vec![b'x'; LONGEST / 8]);
        (0..10).for_each(|_| writer.write(long.clone()));
        assert_eq!(writer.counts.dropped(), 2);
        assert_eq!(writer.waiting.load(Ordering::Relaxed), LONGEST);
    }

    #[test]
    fn many_lines_find_no_room_though_they_are_short() {
        let (queue, _lines) = sync_channel(QUEUE);
        let writer = LineWriter {
            queue,
            waiting: Arc::default(),
            counts: LogCounts::default(),
        };
        (0..QUEUE + 3).for_each(|_| writer.write_with(|line| line.push('\n')));
        assert_eq!(writer.counts.dropped(), 3);
        assert_eq!(writer.waiting.load(Ordering::Relaxed), QUEUE);
    }
}
