"""Standing in front of an old server: requests go on to it, copies go to ours, answers are compared, then we take over.

address   where a server answers, and what is spoken there
http      the way of a request over HTTP/1.1: the door, the connections, a copy and its comparison
grpc      the same of a call over gRPC
mirror    the copies of both: asked of ours beside the clients' way, never in it
room      the memory that they may take
compare   whether two values say the same, within a tolerance
tally     what was counted, as a report
control   the folder and socket by which `dukou migrate --report` and `--flip` find a running one
process   all of it together
"""
