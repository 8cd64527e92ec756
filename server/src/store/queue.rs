//! What waits for the database, and which of it goes next.
//!
//! Each kind of statement has a line of its own. A lane that has nothing to do takes the line whose first has waited
//! longest; where several of that line came meanwhile and may share a statement, it takes them together. Nothing is
//! held back to wait for company: a statement that finds a lane free runs alone, at once, and only load makes them meet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::StoreError;
use super::kinds::{Create, Describe, List, Ping, Remove, Update};
use super::lane::Run;
use super::once::Once;
use super::statement::Statement;

/// One statement that is asked for, and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask<S: Statement> {
    pub(super) statement: S,
    pub(super) answer: oneshot::Sender<Result<S::Answer, StoreError>>,
    pub(super) since: Instant,
    /// How often it was tried.
    pub(super) tries: u32,
    /// It shares no statement: sharing one has failed.
    pub(super) alone: bool,
}

/// Statements of one kind that wait.
#[derive(Debug)]
pub(super) struct Line<S: Statement> {
    waiting: VecDeque<Ask<S>>,
    under_way: usize,
}

impl<S: Statement> Default for Line<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0 }
    }
}

/// A line, whatever its kind.
trait AnyLine {
    fn len(&self) -> usize;
    /// Since when the first of it waits; `None` where nothing of it may go now.
    fn ready_since(&self) -> Option<Instant>;
    fn take(&mut self) -> Box<dyn Run>;
    fn one_less(&mut self);
    fn expire(&mut self, before: Instant, error: &StoreError) -> usize;
}

impl<S: Statement> AnyLine for Line<S> {
    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn ready_since(&self) -> Option<Instant> {
        if self.under_way >= S::UNDER_WAY_MAX { None } else { self.waiting.front().map(|ask| ask.since) }
    }

    fn take(&mut self) -> Box<dyn Run> {
        self.under_way += 1;
        Box::new(take_together(&mut self.waiting))
    }

    fn one_less(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn expire(&mut self, before: Instant, error: &StoreError) -> usize {
        let length = self.waiting.len();
        while self.waiting.front().is_some_and(|ask| ask.since < before) {
            if let Some(ask) = self.waiting.pop_front() {
                let _ = ask.answer.send(Err(error.clone()));
            }
        }
        length - self.waiting.len()
    }
}

/// The first, with those behind it that may share its statement. The others keep their order.
fn take_together<S: Statement>(waiting: &mut VecDeque<Ask<S>>) -> Vec<Ask<S>> {
    let alone = waiting.front().is_some_and(|ask| ask.alone);
    let most = if alone { 1 } else { S::TOGETHER_MAX };
    let mut taken: Vec<Ask<S>> = Vec::with_capacity(most.min(waiting.len()));
    let mut passed_over = VecDeque::new();
    while taken.len() < most {
        let Some(ask) = waiting.pop_front() else { break };
        let shares = !ask.alone || taken.is_empty();
        if shares && taken.iter().all(|other| S::may_share(&other.statement, &ask.statement)) {
            taken.push(ask);
        } else {
            passed_over.push_back(ask);
        }
    }
    while let Some(ask) = passed_over.pop_back() {
        waiting.push_front(ask);
    }
    taken
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) creates: Line<Create>,
    pub(super) updates: Line<Update>,
    pub(super) removes: Line<Remove>,
    pub(super) describes: Line<Describe>,
    pub(super) lists: Line<List>,
    pub(super) pings: Line<Ping>,
    pub(super) onces: Line<Once>,
}

impl Lines {
    fn all(&mut self) -> [&mut dyn AnyLine; 7] {
        [
            &mut self.creates,
            &mut self.updates,
            &mut self.removes,
            &mut self.describes,
            &mut self.lists,
            &mut self.pings,
            &mut self.onces,
        ]
    }
}

#[derive(Debug)]
struct State {
    lines: Lines,
    waiting: usize,
    /// The lanes that have nothing to do, the one that went idle last at the end: it is woken first, so that as few
    /// connections as serve the load are used.
    idle: Vec<usize>,
    closed: bool,
}

/// What a lane does next.
pub(super) enum Next {
    /// Run this; then say [`Queue::done`] with the number.
    Run(usize, Box<dyn Run>),
    /// Nothing came for so long.
    Idle,
    /// Nothing comes any more.
    Closed,
}

/// The lines, and the lanes that serve them.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wakers: Box<[Notify]>,
    length_max: usize,
    wait_max: Duration,
    not_empty: Notify,
}

impl Queue {
    /// For so many lanes. More than `length_max` statements do not wait, and none waits longer than `wait_max`.
    pub(super) fn new(lanes: usize, length_max: usize, wait_max: Duration) -> Self {
        let state = State { lines: Lines::default(), waiting: 0, idle: Vec::new(), closed: false };
        let wakers = (0..lanes).map(|_| Notify::new()).collect();
        Self { state: Mutex::new(state), wakers, length_max, wait_max, not_empty: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Statements that wait for a lane.
    pub(super) fn length(&self) -> usize {
        self.state().waiting
    }

    /// All lanes.
    pub(super) fn lanes(&self) -> usize {
        self.wakers.len()
    }

    /// Lanes that have work.
    pub(super) fn busy(&self) -> usize {
        self.lanes().saturating_sub(self.state().idle.len())
    }

    /// Puts a statement into its line.
    ///
    /// # Errors
    /// When too many wait already, or the store is closed.
    pub(super) fn ask<S: Statement>(
        &self,
        statement: S,
    ) -> Result<oneshot::Receiver<Result<S::Answer, StoreError>>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { statement, answer, since: Instant::now(), tries: 0, alone: false };
        let state = self.state();
        if state.closed {
            return Err(StoreError::Closed);
        }
        if state.waiting >= self.length_max {
            return Err(StoreError::Overloaded(self.length_max));
        }
        self.enqueue(state, ask, VecDeque::push_back);
        Ok(answered)
    }

    /// Puts one that was tried back in front of its line.
    pub(super) fn again<S: Statement>(&self, ask: Ask<S>) {
        self.enqueue(self.state(), ask, VecDeque::push_front);
    }

    fn enqueue<S: Statement>(
        &self,
        mut state: MutexGuard<'_, State>,
        ask: Ask<S>,
        push: fn(&mut VecDeque<Ask<S>>, Ask<S>),
    ) {
        let line = S::line(&mut state.lines);
        push(&mut line.waiting, ask);
        let startable = line.ready_since().is_some();
        state.waiting += 1;
        let first = state.waiting == 1;
        let lane = if startable { state.idle.pop() } else { None };
        drop(state);
        match lane {
            Some(lane) => self.wakers[lane].notify_one(),
            None if first => self.not_empty.notify_one(),
            None => {}
        }
    }

    /// What lane `lane` does next; waits no longer than `idle_max` for it.
    pub(super) async fn next(&self, lane: usize, idle_max: Duration) -> Next {
        loop {
            {
                let mut state = self.state();
                state.idle.retain(|idle| *idle != lane);
                if let Some((number, run)) = take_oldest(&mut state) {
                    return Next::Run(number, run);
                }
                if state.closed {
                    return Next::Closed;
                }
                state.idle.push(lane);
            }
            if tokio::time::timeout(idle_max, self.wakers[lane].notified()).await.is_err() {
                return Next::Idle;
            }
        }
    }

    /// A statement of this line ended, or takes so long that it should not keep others of its kind from starting.
    pub(super) fn done(&self, number: usize) {
        let mut state = self.state();
        let line = &mut state.lines.all()[number];
        line.one_less();
        let lane = if line.ready_since().is_some() { state.idle.pop() } else { None };
        drop(state);
        if let Some(lane) = lane {
            self.wakers[lane].notify_one();
        }
    }

    /// Takes nothing more; lanes finish what waits.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wakers.iter().for_each(Notify::notify_one);
        self.not_empty.notify_one();
    }

    /// Refuses what has waited too long: every lane may be stuck. Sleeps while nothing waits.
    pub(super) async fn expire(&self) {
        loop {
            if self.length() == 0 {
                self.not_empty.notified().await;
            }
            if self.is_over() {
                return;
            }
            tokio::time::sleep(self.wait_max / 4).await;
            let mut state = self.state();
            if let Some(before) = Instant::now().checked_sub(self.wait_max) {
                let error = StoreError::Waited(self.wait_max);
                let expired: usize =
                    state.lines.all().into_iter().map(|line| line.expire(before, &error)).sum();
                state.waiting -= expired;
            }
        }
    }

    fn is_over(&self) -> bool {
        let state = self.state();
        state.closed && state.waiting == 0
    }
}

fn take_oldest(state: &mut State) -> Option<(usize, Box<dyn Run>)> {
    let lines = state.lines.all();
    let ready = lines.iter().enumerate().filter_map(|(number, line)| Some((line.ready_since()?, number)));
    let (_, number) = ready.min()?;
    let before = lines[number].len();
    let run = lines[number].take();
    let taken = before - lines[number].len();
    state.waiting -= taken;
    Some((number, run))
}

#[cfg(test)]
mod tests;
