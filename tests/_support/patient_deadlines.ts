/**
 * Loaded before the unit tests: deadlines of the real clock come twenty times later. A test of a
 * deadline drives a `FakeClock`; all other tests must not fail because a machine with much else to do
 * took longer than what a user is asked to wait.
 */
import { systemClock } from "../../src/internal/clock.ts";

/** Waits from here on are deadlines; shorter ones are pauses and polls. */
const FROM_MS = 5_000;
const TIMES = 20;

const schedule = systemClock.schedule.bind(systemClock);
systemClock.schedule = (delayMs, callback) =>
  schedule(delayMs < FROM_MS ? delayMs : delayMs * TIMES, callback);
