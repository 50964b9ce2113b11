"""Over gRPC: calls are passed on message by message, as bytes; grpcio moves them.

door      listens, and holds the rest together
channel   a server that calls are passed on to
forward   a client's calls: each to the side that answers, every message of the answer back
copy      a call with its answer, to be asked of ours
messages  what the messages of inference say, as plain values
peer      what kind of server the old one is, by what it answers
"""
