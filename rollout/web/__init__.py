"""The daemon's API: JSON over HTTP on the loopback.

`views.py` turns what the project knows into JSON, `service.py` does what may be asked, `app.py` is the FastAPI face
with its token and its errors, `bodies.py` what requests carry. The rule: the API never touches Azure; it reads the
store and writes facts into it, and answers within milliseconds. One route may wait: /v1/plan reads logs, within bounds.
"""
