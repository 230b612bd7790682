// Reads events, one a line, and writes them again.
mod sms_status_event;

use std::io::BufRead;

fn main() {
    for line in std::io::stdin().lock().lines() {
        let text = line.unwrap();
        let mut event: sms_status_event::SmsStatusEvent = serde_json::from_str(&text).unwrap();
        let last: Option<bool> = event.data.sms_status_final;
        event.data.sms_status_final = last;
        println!("{}", serde_json::to_string(&event).unwrap());
    }
}
