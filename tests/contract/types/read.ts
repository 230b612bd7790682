// Takes events as what they are declared to be: the compiler refuses any that is not.
import type { SMSStatusEvent } from "./sms_status_event";

export const events: SMSStatusEvent[] = [/* events */];

const event: SMSStatusEvent = events[0]!;
export const final: boolean | null = event.data.final;
// @ts-expect-error -- null is among its values
export const told: boolean = event.data.final;
// @ts-expect-error -- there is no such outcome
event.data.outcome = "lost";
