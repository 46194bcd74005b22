//! Named points at which tests make the disk, the resolver or an actor's start fail.
//!
//! Each [`Disk`](super::Disk) handle carries a [`Faults`]. In tests, and with the feature `failure-points`, it holds a
//! table of what to do at which point; in all other builds it has no size and every check is inlined away.
//!
//! With the feature, the file that the environment variable [`CONTROL_FILE`] names is read as well, so that a test can
//! let the real binary fail:
//!
//! ```text
//! # errno by name; it fails until the line is taken away
//! wal-write=ENOSPC
//! # the third one and the one after it
//! wal-sync=EIO after=2 times=2
//! manifest-write=panic
//! resolve-name=block
//! wal-read=damage
//! ```

#[cfg(test)]
mod tests;

use std::io;

#[cfg(any(test, feature = "failure-points"))]
pub use table::{Blocked, Fault};

/// Environment variable with the path of the file that controls the failure points of a process.
#[cfg(any(test, feature = "failure-points"))]
pub const CONTROL_FILE: &str = "STENTOR_FAILURE_POINTS";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place that can be made to fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point { $($(#[$doc])* $point,)* }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// The name in the control file.
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)* }
            }
        }
    };
}

points! {
    // any folder
    MakeFolder = "make-folder",
    List = "list",
    /// Looking up whether a file exists and how long it is.
    Look = "look",
    Rename = "rename",
    Remove = "remove",
    SyncFolder = "sync-folder",
    // the data folder
    LockOpen = "lock-open",
    FormatRead = "format-read",
    FormatWrite = "format-write",
    SecretKeyRead = "secret-key-read",
    SecretKeyWrite = "secret-key-write",
    // the write-ahead log
    WalOpen = "wal-open",
    WalRead = "wal-read",
    WalWrite = "wal-write",
    WalSync = "wal-sync",
    /// Writing zeros into a piece before its first use.
    WalFill = "wal-fill",
    // manifests of the write-ahead log, of segments and of generations
    ManifestRead = "manifest-read",
    ManifestWrite = "manifest-write",
    // databases
    DatabaseOpen = "database-open",
    DatabaseRead = "database-read",
    DatabaseWrite = "database-write",
    DatabaseSync = "database-sync",
    SalvageRead = "salvage-read",
    // the flat copy of the documents
    CopyRead = "copy-read",
    CopyWrite = "copy-write",
    // backups
    BackupRead = "backup-read",
    BackupWrite = "backup-write",
    // not the disk
    ResolveName = "resolve-name",
    StartActor = "start-actor",
    StartThread = "start-thread",
    /// Between the note that a commit is announced and its sending; an error drops what would be sent.
    Announce = "announce",
    /// A shard or channel asks the registry, somebody the tickets, a batch comes to a channel or a shard.
    RegistryMessage = "registry-message",
    TicketMessage = "ticket-message",
    ChannelBatch = "channel-batch",
    ShardBatch = "shard-batch",
}

impl Point {
    pub fn from_name(name: &str) -> Option<Point> {
        Point::ALL.iter().copied().find(|point| point.name() == name)
    }
}

/// What was asked to fail. Clones share one table.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    #[cfg(any(test, feature = "failure-points"))]
    table: std::sync::Arc<table::Table>,
}

#[cfg(not(any(test, feature = "failure-points")))]
const _: () = assert!(size_of::<Faults>() == 0);

impl Faults {
    /// Passes a point.
    ///
    /// # Errors
    /// What a test asked for at this point.
    #[inline]
    pub fn check(&self, point: Point) -> io::Result<()> {
        #[cfg(any(test, feature = "failure-points"))]
        return self.table.check(point);
        #[cfg(not(any(test, feature = "failure-points")))]
        {
            let _ = point;
            Ok(())
        }
    }

    /// Damages what was read when a test asked for that at this point.
    #[inline]
    pub fn damage(&self, point: Point, read: &mut [u8]) {
        #[cfg(any(test, feature = "failure-points"))]
        self.table.damage(point, read);
        #[cfg(not(any(test, feature = "failure-points")))]
        let _ = (point, read);
    }
}

#[cfg(any(test, feature = "failure-points"))]
impl Faults {
    /// Asks for `fault` at `point`, in place of what was asked for there before.
    pub fn set(&self, point: Point, fault: Fault) {
        self.table.set(point, fault);
    }

    /// Lets `point` fail with an errno until it is cleared.
    pub fn fail(&self, point: Point, errno: i32) {
        self.set(point, Fault::errno(errno));
    }

    /// Holds every thread that comes to `point` until the answer is released or dropped.
    pub fn block(&self, point: Point) -> Blocked {
        self.table.block(point)
    }

    pub fn clear(&self, point: Point) {
        self.table.clear(point);
    }

    pub fn clear_all(&self) {
        self.table.clear_all();
    }

    /// How often `point` was come to, whether it failed or not.
    pub fn passed(&self, point: Point) -> u64 {
        self.table.passed(point)
    }
}

#[cfg(any(test, feature = "failure-points"))]
mod table {
    use std::collections::BTreeMap;
    use std::io;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    use parking_lot::{Condvar, Mutex};

    use super::{Faults, Point};

    /// How often the control file is looked at, at most.
    const LOOK_EVERY: Duration = Duration::from_millis(50);

    /// What happens at a point, and when.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Fault {
        action: Action,
        /// Passes that go well before it.
        after: u64,
        /// Passes that fail; none = until cleared.
        times: Option<u64>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Action {
        Errno(i32),
        Panic,
        Block,
        Damage,
    }

    impl Fault {
        pub fn errno(errno: i32) -> Fault {
            Fault::of(Action::Errno(errno))
        }

        pub fn panic() -> Fault {
            Fault::of(Action::Panic)
        }

        /// Flips a bit in the middle of what is read.
        pub fn damage() -> Fault {
            Fault::of(Action::Damage)
        }

        fn of(action: Action) -> Fault {
            Fault { action, after: 0, times: None }
        }

        /// Only the next `times` passes.
        pub fn times(mut self, times: u64) -> Fault {
            self.times = Some(times);
            self
        }

        /// The next `passes` go well first.
        pub fn after(mut self, passes: u64) -> Fault {
            self.after = passes;
            self
        }

        /// Counts a pass: whether the fault happens in it.
        fn take(&mut self) -> bool {
            if self.after > 0 {
                self.after -= 1;
                return false;
            }
            match &mut self.times {
                Some(0) => false,
                Some(left) => {
                    *left -= 1;
                    true
                }
                None => true,
            }
        }

        /// Reads what stands behind `point=` in the control file.
        pub(super) fn parse(text: &str) -> Option<Fault> {
            let mut words = text.split_whitespace();
            let mut fault = Fault::of(match words.next()? {
                "panic" => Action::Panic,
                "block" => Action::Block,
                "damage" => Action::Damage,
                name => Action::Errno(errno(name)?),
            });
            for word in words {
                let (name, number) = word.split_once('=')?;
                let number = number.parse().ok()?;
                match name {
                    "times" => fault.times = Some(number),
                    "after" => fault.after = number,
                    _ => return None,
                }
            }
            Some(fault)
        }
    }

    fn errno(name: &str) -> Option<i32> {
        Some(match name {
            "EACCES" => libc::EACCES,
            "EDQUOT" => libc::EDQUOT,
            "EEXIST" => libc::EEXIST,
            "EINTR" => libc::EINTR,
            "EIO" => libc::EIO,
            "EMFILE" => libc::EMFILE,
            "ENFILE" => libc::ENFILE,
            "ENOENT" => libc::ENOENT,
            "ENOMEM" => libc::ENOMEM,
            "ENOSPC" => libc::ENOSPC,
            "EPERM" => libc::EPERM,
            "EROFS" => libc::EROFS,
            "EWOULDBLOCK" => libc::EWOULDBLOCK,
            _ => return None,
        })
    }

    #[derive(Debug, Default)]
    pub struct Table {
        state: Mutex<State>,
        /// Told when a fault is cleared, a thread is held, or a held thread goes on.
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct State {
        faults: BTreeMap<Point, Fault>,
        passed: BTreeMap<Point, u64>,
        /// Threads that are held.
        held: BTreeMap<Point, u64>,
        control: Option<Control>,
    }

    /// The control file as it was read last.
    #[derive(Debug)]
    struct Control {
        path: PathBuf,
        looked: Option<Instant>,
        version: Option<(SystemTime, u64)>,
        points: Vec<Point>,
    }

    impl Table {
        pub fn controlled_by(path: PathBuf) -> Table {
            let control = Control { path, looked: None, version: None, points: Vec::new() };
            Table { state: Mutex::new(State { control: Some(control), ..State::default() }), changed: Condvar::new() }
        }

        /// Passes a failure point: nothing happens unless a test has set a fault there, which may also block or panic.
        ///
        /// # Errors
        /// The error that a test has set for this point.
        pub fn check(&self, point: Point) -> io::Result<()> {
            let mut state = self.state.lock();
            state.look();
            *state.passed.entry(point).or_default() += 1;
            let action = state.faults.get_mut(&point).filter(|fault| fault.action != Action::Damage);
            match action.and_then(|fault| fault.take().then_some(fault.action)) {
                None | Some(Action::Damage) => Ok(()),
                Some(Action::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
                Some(Action::Panic) => {
                    drop(state);
                    panic!("the failure point {} was asked to panic", point.name())
                }
                Some(Action::Block) => {
                    *state.held.entry(point).or_default() += 1;
                    self.changed.notify_all();
                    while state.faults.get(&point).is_some_and(|fault| fault.action == Action::Block) {
                        // the control file tells nobody that it has changed
                        self.changed.wait_for(&mut state, LOOK_EVERY);
                        state.look();
                    }
                    *state.held.entry(point).or_default() -= 1;
                    self.changed.notify_all();
                    Ok(())
                }
            }
        }

        pub fn damage(&self, point: Point, read: &mut [u8]) {
            let mut state = self.state.lock();
            state.look();
            let fault = state.faults.get_mut(&point).filter(|fault| fault.action == Action::Damage);
            let middle = read.len() / 2;
            if let Some(byte) = read.get_mut(middle)
                && fault.is_some_and(Fault::take)
            {
                *byte ^= 0x10;
            }
        }

        pub fn set(&self, point: Point, fault: Fault) {
            self.state.lock().faults.insert(point, fault);
            self.changed.notify_all();
        }

        pub fn block(self: &Arc<Self>, point: Point) -> Blocked {
            self.set(point, Fault::of(Action::Block));
            Blocked { table: self.clone(), point }
        }

        pub fn clear(&self, point: Point) {
            self.state.lock().faults.remove(&point);
            self.changed.notify_all();
        }

        pub fn clear_all(&self) {
            self.state.lock().faults.clear();
            self.changed.notify_all();
        }

        pub fn passed(&self, point: Point) -> u64 {
            self.state.lock().passed.get(&point).copied().unwrap_or(0)
        }
    }

    impl State {
        /// Reads the control file again when it has changed.
        fn look(&mut self) {
            let Some(control) = &mut self.control else { return };
            if control.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return;
            }
            control.looked = Some(Instant::now());
            // without the file nothing fails
            let version = std::fs::metadata(&control.path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
            if version == control.version {
                return;
            }
            control.version = version;
            for point in control.points.drain(..) {
                self.faults.remove(&point);
            }
            let text = std::fs::read_to_string(&control.path).unwrap_or_default();
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let parsed = line
                    .split_once('=')
                    .and_then(|(name, fault)| Some((Point::from_name(name.trim())?, Fault::parse(fault)?)));
                match parsed {
                    Some((point, fault)) => {
                        control.points.push(point);
                        self.faults.insert(point, fault);
                    }
                    None => log::error!(line; "the file of failure points has a line that says nothing"),
                }
            }
        }
    }

    /// A point at which threads are held; it lets them go when it is dropped.
    #[derive(Debug)]
    pub struct Blocked {
        table: Arc<Table>,
        point: Point,
    }

    impl Blocked {
        /// Waits until a thread is held; false when none came in time. Blocks.
        pub fn wait_until_reached(&self, timeout: Duration) -> bool {
            let deadline = Instant::now() + timeout;
            let mut state = self.table.state.lock();
            while state.held.get(&self.point).copied().unwrap_or(0) == 0 {
                if self.table.changed.wait_until(&mut state, deadline).timed_out() {
                    return false;
                }
            }
            true
        }

        pub fn release(self) {}
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            self.table.clear(self.point);
        }
    }

    impl Faults {
        /// Reads the control file that `path` names.
        pub fn controlled_by(path: PathBuf) -> Faults {
            Faults { table: Arc::new(Table::controlled_by(path)) }
        }
    }
}
