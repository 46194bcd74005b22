//! Compiling on a deep stack. The parser of the crate `cel` recurses deeply (up to 200 KiB of stack per bracket without
//! optimisation), more than the threads that ask have. So there is one thread for it, started by the first who needs it; a
//! thread that was started with a deep stack of its own says so, and compiles by itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;

use parking_lot::Mutex;

use super::FilterError;
use super::compile::{self, CANNOT_PARSE, Program};

/// Holds the deepest brackets that are let through (8 MiB without optimisation) and a chain as long as the longest
/// text (2 MiB). Memory is taken only as far as it is used.
pub const STACK_BYTES: usize = 16 << 20;

type Outcome = Result<Program, FilterError>;

struct Job {
    text: String,
    answer: SyncSender<Outcome>,
}

thread_local! {
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// None until it is needed, and again should it ever end.
static COMPILER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// Says that this thread was started with [`STACK_BYTES`].
pub fn this_thread_is_deep() {
    IS_DEEP.set(true);
}

/// Compiles `text` on a stack that is deep enough, and waits for it.
pub(super) fn compile(text: &str) -> Outcome {
    if IS_DEEP.get() {
        return compile_here(text);
    }
    let busy = || compile::fault_at(text, 0, "the server is too busy to check it; try again");
    let (answer, answered) = mpsc::sync_channel(1);
    let sent = {
        let mut compiler = COMPILER.lock();
        let job = Job { text: text.to_owned(), answer };
        match &*compiler {
            Some(running) => running.send(job).map_err(|_| ()),
            None => start().map_err(|_| ()).and_then(|started| {
                let sent = started.send(job).map_err(|_| ());
                *compiler = Some(started);
                sent
            }),
        }
        .inspect_err(|()| *compiler = None)
    };
    sent.map_err(|()| busy())?;
    answered.recv().unwrap_or_else(|_| Err(busy()))
}

fn start() -> std::io::Result<Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    thread::Builder::new().name("filters".into()).stack_size(STACK_BYTES).spawn(move || {
        for Job { text, answer } in queue {
            // whoever asked waits for it
            let _ = answer.send(compile_here(&text));
        }
    })?;
    Ok(jobs)
}

/// The parser is generated code: a panic in it counts as a bad expression.
fn compile_here(text: &str) -> Outcome {
    let compiled = catch_unwind(AssertUnwindSafe(|| compile::parse_and_check(text)));
    compiled.unwrap_or_else(|_| Err(compile::fault_at(text, 0, CANNOT_PARSE)))
}
