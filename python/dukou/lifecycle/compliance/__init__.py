"""Evidence for controls of information security and privacy, measured on the living installation.

It says what holds here and now, and what is missing: evidence for whoever judges, never a certificate.
"""
