//! Progress of long work on standard error, where a terminal is; elsewhere nothing.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// A bar or a counter, and the way for notices past it.
pub struct Progress(Option<ProgressBar>);

/// Redraws a second.
const RATE_HZ: u8 = 10;
/// How often a counter turns though nothing happens.
const TURN: Duration = Duration::from_millis(200);

impl Progress {
    /// A bar over `total` units of whatever; a counter when it is not known how many there will be.
    pub fn new(total: Option<u64>) -> Progress {
        if !output::is_watched() {
            return Progress(None);
        }
        let template = match total {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {elapsed} ({eta} left)",
            None => "{spinner} {msg}  {elapsed}",
        };
        // the templates above are well-formed, which a test looks at
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(RATE_HZ));
        bar.set_style(style);
        bar.enable_steady_tick(TURN);
        Progress(Some(bar))
    }

    /// For work that says by itself how it goes on.
    pub fn hidden() -> Progress {
        Progress(None)
    }

    /// Where the work stands: `position` in units of the total, and what was done.
    pub fn set(&self, position: u64, events: u64, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
            bar.set_message(format!("{} events, {}", HumanCount(events), HumanBytes(bytes)));
        }
    }

    /// Where work stands that is counted in bytes.
    pub fn bytes(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
            bar.set_message(HumanBytes(bytes).to_string());
        }
    }

    /// Says something without breaking the bar.
    pub fn notice(&self, styled: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| output::notice(styled)),
            None => output::notice(styled),
        }
    }

    /// The bar goes; what is worth knowing is said by others.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_where_no_terminal_is() {
        let progress = Progress::new(Some(10));
        assert!(progress.0.is_none());
        progress.set(5, 1, 1);
        progress.finish();
    }

    #[test]
    fn the_templates_are_well_formed() {
        for template in ["{bar:30} {percent:>3} %  {msg}  {elapsed} ({eta} left)", "{spinner} {msg}  {elapsed}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
