"""The application with its spans recorded."""

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
ONE = b'<response><state id_sms="31337">read</state></response>'
TWO = b'<response><state id_sms="1">read</state><state id_sms="2">send</state></response>'
SECRET = "s3cret-t0ken"
