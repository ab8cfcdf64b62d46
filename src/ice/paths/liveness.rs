//! Pure: the pulse of one route - what was asked on it, what was answered, and what follows from that.
//!
//! ICE checks a pair until it works and then looks again every few seconds, and gives up after many. That is no way to
//! watch a path that carries live pictures, so every validated route is asked steadily (RFC 7675, only faster). Silence is
//! judged by what the route loses on a good day: as many questions in a row must stay open as chance alone would leave
//! open once in ten million times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An answer is never called late before this.
const PATIENCE_MIN: Duration = Duration::from_millis(40);
/// And always after this: nobody can speak live over more.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// Until the first answer has told how long answers take.
const PATIENCE_AT_FIRST: Duration = Duration::from_millis(250);
/// Late answers count for the loss (not for a verdict) when they come within so many times the patience.
const LATE: u32 = 3;
/// Weight of one question in the loss: a memory of about 30 questions, 3 s on the path in use.
const LOSS_WEIGHT: f64 = 1.0 / 32.0;
/// A loss that is assumed at least: a route that has never lost anything may begin to.
const LOSS_MIN: f64 = 0.05;
/// Chance of a false verdict for each question: at ten a second one in about twelve days.
const CHANCE: f64 = 1e-7;
/// Never fewer open questions in a row than this, nor more than that, make a verdict.
const VERDICT: (f64, f64) = (5.0, 16.0);
/// Open questions that are remembered; beyond it the oldest is lost.
const OPEN_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Question {
    sent: Instant,
    answered: bool,
}

/// Life signs of one route.
#[derive(Debug, Clone)]
pub(in crate::ice) struct Pulse {
    questions: VecDeque<Question>,
    /// Questions since the last answered one that are no longer in `questions`.
    lost_since: usize,
    /// When the newest answered question was sent.
    proved: Option<Instant>,
    /// When the last answer came.
    answered: Option<Instant>,
    /// When the last packet came that was no answer.
    heard: Option<Instant>,
    /// Smoothed round trip and its variation (RFC 6298).
    rtt: Option<(Duration, Duration)>,
    loss: f64,
    /// The loss when the last answer came: silence itself must not raise what is expected of a verdict.
    usual_loss: f64,
    /// Since when nothing was missing.
    good_since: Option<Instant>,
    /// When the last question was sent.
    pub(in crate::ice) asked: Option<Instant>,
    /// So many of the next questions are asked in a hurry.
    pub(in crate::ice) burst: u8,
}

impl Pulse {
    /// Of a route that was first asked at `asked`.
    pub(in crate::ice) fn new(asked: Instant) -> Self {
        Self {
            questions: VecDeque::new(),
            lost_since: 0,
            proved: None,
            answered: None,
            heard: None,
            rtt: None,
            loss: 0.0,
            usual_loss: 0.0,
            good_since: None,
            asked: Some(asked),
            burst: 0,
        }
    }

    /// A question was sent.
    pub(in crate::ice) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        self.burst = self.burst.saturating_sub(1);
        self.forget(now);
        if self.questions.len() >= OPEN_MAX {
            self.drop_oldest();
        }
        self.questions.push_back(Question { sent: now, answered: false });
    }

    /// The question that was sent at `sent` has been answered.
    pub(in crate::ice) fn answer(&mut self, now: Instant, sent: Instant) {
        let open = |question: &&mut Question| question.sent == sent && !question.answered;
        if let Some(question) = self.questions.iter_mut().find(open) {
            question.answered = true;
        }
        self.measure(now.saturating_duration_since(sent));
        if self.proved.is_none_or(|proved| sent >= proved) {
            self.proved = Some(sent);
            self.lost_since = 0;
        }
        self.answered = Some(now);
        self.forget(now);
        self.usual_loss = self.loss;
        self.good_since.get_or_insert(now);
    }

    /// Something else came: the way to us works, and most likely the way back.
    pub(in crate::ice) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    fn measure(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 4),
            Some((mean, variation)) => ((mean * 7 + sample) / 8, (variation * 3 + mean.abs_diff(sample)) / 4),
        });
    }

    /// Settles what is too old to be answered.
    fn forget(&mut self, now: Instant) {
        let old = self.patience() * LATE;
        while self.questions.front().is_some_and(|question| now.saturating_duration_since(question.sent) > old) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(question) = self.questions.pop_front() else { return };
        self.loss += LOSS_WEIGHT * (f64::from(u8::from(!question.answered)) - self.loss);
        if !question.answered && self.proved.is_none_or(|proved| question.sent > proved) {
            self.lost_since += 1;
        }
    }

    /// How long an answer may take.
    pub(in crate::ice) fn patience(&self) -> Duration {
        let patience = self.rtt.map(|(mean, variation)| mean + variation * 4 + Duration::from_millis(20));
        patience.map_or(PATIENCE_AT_FIRST, |patience| patience.clamp(PATIENCE_MIN, PATIENCE_MAX))
    }

    /// Questions in a row that should have been answered by now.
    pub(in crate::ice) fn missed(&self, now: Instant) -> usize {
        let patience = self.patience();
        let open = self.questions.iter().filter(|question| {
            !question.answered
                && self.proved.is_none_or(|proved| question.sent > proved)
                && now.saturating_duration_since(question.sent) > patience
        });
        self.lost_since + open.count()
    }

    /// So many missed questions in a row are no accident on this route.
    pub(in crate::ice) fn verdict(&self) -> usize {
        let questions = CHANCE.ln() / self.usual_loss.clamp(LOSS_MIN, 0.5).ln();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "5 to 16")]
        let questions = questions.ceil().clamp(VERDICT.0, VERDICT.1) as usize;
        questions
    }

    /// It does not answer, and that is no accident. Packets that still come (`quiet_after` is how long they may be away)
    /// delay the verdict, as the questions alone may be what gets lost; but not for ever, as the way out may be dead.
    pub(in crate::ice) fn is_dead(&self, now: Instant, quiet_after: Duration) -> bool {
        let missed = self.missed(now);
        let verdict = self.verdict();
        let quiet = self.heard.is_none_or(|heard| now.saturating_duration_since(heard) >= quiet_after);
        missed >= if quiet { verdict } else { verdict * 3 }
    }

    /// The last sign of life of any kind.
    pub(in crate::ice) fn last_sign(&self) -> Option<Instant> {
        self.answered.max(self.heard)
    }

    /// It has answered a question that was sent at `since` or later.
    pub(in crate::ice) fn proved_since(&self, since: Instant) -> bool {
        self.proved.is_some_and(|proved| proved >= since)
    }

    /// When the newest answered question was asked.
    pub(in crate::ice) fn proved(&self) -> Option<Instant> {
        self.proved
    }

    /// For how long nothing was missing.
    pub(in crate::ice) fn good_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.good_since?))
    }

    /// To be called often: a route that misses more than chance takes is not good any more.
    pub(in crate::ice) fn look(&mut self, now: Instant) {
        if self.missed(now) >= self.verdict().div_ceil(2) {
            self.good_since = None;
        }
    }

    pub(in crate::ice) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(mean, _)| mean)
    }

    /// 0..=1.
    pub(in crate::ice) fn loss(&self) -> f64 {
        self.loss
    }
}
