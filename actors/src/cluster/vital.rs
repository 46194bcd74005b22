//! Threads and tasks without which a node would go on showing what it has and follow the log no more. One that panics ends
//! the process: what it holds may be half of something, and the next start reads it from NATS. Whoever looks after the process
//! (systemd, Kubernetes, a container engine) starts it again.

/// Held by one of them for as long as it runs.
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("{} panicked; the server ends, and goes on when it is started again", self.0);
            std::process::abort();
        }
    }
}

/// Runs a task as one of them.
pub async fn vital<T>(what: &'static str, task: impl Future<Output = T>) -> T {
    let _vital = Vital(what);
    task.await
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "STENTOR_TEST_VITAL";

    struct Stderr;

    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            eprintln!("{}: {}", record.level(), record.args());
        }

        fn flush(&self) {}
    }

    /// What the test does as a process of its own.
    fn run(which: &str) {
        log::set_logger(&Stderr).expect("no logger yet");
        log::set_max_level(log::LevelFilter::Info);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        match which {
            "thread" => {
                let thread = std::thread::spawn(|| {
                    let _vital = Vital("the thread");
                    panic!("as the test wants");
                });
                // it is the process that ends, or the thread alone: then the test fails
                drop(thread.join());
            }
            "task" => {
                let task = runtime.spawn(vital("the task", async {
                    tokio::task::yield_now().await;
                    panic!("as the test wants");
                }));
                drop(runtime.block_on(task));
            }
            "calm" => {
                let _vital = Vital("nothing");
                runtime.block_on(runtime.spawn(vital("the task", async {}))).expect("it ends");
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_panic_of_a_vital_thread_or_task_ends_the_process_and_says_so() {
        if let Ok(which) = std::env::var(CHILD) {
            return run(&which);
        }
        let name = "cluster::vital::tests::a_panic_of_a_vital_thread_or_task_ends_the_process_and_says_so";
        for (which, ends) in [("thread", true), ("task", true), ("calm", false)] {
            let mut child = Command::new(std::env::current_exe().expect("the test program"));
            let ended = child.args(["--exact", name, "--nocapture"]).env(CHILD, which).output().expect("it runs");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.signal(), ends.then_some(libc::SIGABRT), "{which}: {said}");
            let line = format!("ERROR: the {which} panicked; the server ends, and goes on when it is started again");
            assert_eq!(said.contains(&line), ends, "{which}: {said}");
        }
    }
}
