"""The HTTP door: parse, one call, render. It holds no key and sees no plaintext.

What enters: JSON read by one strict reader, signed documents, sealed octets. What never enters: a
patient's code or key, a record in the clear. Map:

=================  ==============================================================================
``app``            ``create_app(exchange)``: routers, handlers, pages, health
``process``        the process ``assent api``
``door``           trace ids, security headers, hosts, body limits, one log line per request
``problems``       every error of the four packages as an RFC 9457 problem, one table
``problem_table``  the table of ``problems``
``auth``           challenge and session, private_key_jwt, bearer tokens, the three actors
``reading``        ids and hex in addresses, queries and bodies
``participants``   admission of hospitals
``enrolment``      invitations, redemption, subjects
``consents``       granting, withdrawing, listing, what is held, receipts
``events``         a subject's stream of changes (SSE)
``health``         liveness, readiness, counters
``deployment``     what everybody may know of this deployment
=================  ==============================================================================

The other routers belong to the rooms whose verbs they show.
"""
