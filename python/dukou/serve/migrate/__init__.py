"""Standing in front of an old server: requests go on to it, copies go to ours, answers are compared, then we take over.

peer      what kind of server the old one is, by what it answers
link      one HTTP/1.1 connection, from either side (h11: bytes ↔ events)
body      a request's body: passed on as it comes, kept for a copy as far as there is room
forward   a client's connections: each request to the side that answers, every byte of the answer back
mirror    the copies: asked of ours beside the clients' way, never in it
compare   whether two answers say the same, within a tolerance
tally     what was counted, as a report
control   the folder and socket by which `dukou migrate --report` and `--flip` find a running one
process   all of it together
"""
