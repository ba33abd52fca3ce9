//! Runs that go on as planned, but not in time: someone is told, once each.

use super::{Machine, Phase};
use crate::clock::Now;
use crate::event::{AlertKind, Event};
use crate::id::RunId;
use crate::store::Intent;

impl Machine {
    pub(super) fn sound_alarms(&mut self, now: Now) {
        while let Some((at, run_id)) = self.late.first().copied().filter(|(at, _)| *at <= now.utc) {
            self.late.remove(&(at, run_id));
            if let Some(run) = self.runs.get_mut(&run_id) {
                run.late = None;
                if run.phase == Phase::Queued {
                    self.alarm(now, run_id, AlertKind::LateStart, "has not started yet", "its time");
                }
            }
        }
        while let Some((at, run_id)) = self.overruns.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.overruns.remove(&(at, run_id));
            if let Some(run) = self.runs.get_mut(&run_id) {
                run.overrun = None;
                self.alarm(now, run_id, AlertKind::Overrun, "has not ended yet", "its start");
            }
        }
    }

    fn alarm(&mut self, now: Now, run_id: RunId, kind: AlertKind, what: &str, begin: &str) {
        let Some(run) = self.runs.get(&run_id) else { return };
        let Some(schedule) = self.schedules.get(&run.record.schedule) else { return };
        let alert = schedule.row.spec.alert;
        let limit = if kind == AlertKind::Overrun { alert.overrun } else { alert.late_start };
        let name = run.record.schedule.clone();
        let limit = humantime::format_duration(limit.unwrap_or_default());
        let message = format!("{name} {what}, {limit} after {begin}; see `sched show {name}`");
        let event = Event::Alert { kind, schedule: Some(name), run_id: Some(run_id), message };
        self.write(now, Intent::Note, vec![event]);
    }
}
