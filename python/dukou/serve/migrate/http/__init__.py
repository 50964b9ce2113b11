"""Over HTTP/1.1.

door      listens, and holds the rest together
link      one connection, from either side (h11: bytes ↔ events)
body      a request's body: passed on as it comes, kept for a copy as far as there is room
forward   a client's connections: each request to the side that answers, every byte of the answer back
copy      a request with its answer, to be asked of ours
answer    whether two answers say the same
peer      what kind of server the old one is, by what it answers
"""
