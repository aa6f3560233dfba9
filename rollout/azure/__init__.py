"""Azure: the real cloud (or a sandbox that speaks like it) behind the ports `Endpoints` and `Telemetry`.

`cloud.py` says which cloud and who we are, `connection.py` makes everything from the settings, `endpoints.py` reads and
moves traffic (azure-ai-ml, met in `azure_ml.py` and `arm.py`), `logs.py` and `metrics.py` read cells
(azure-monitor-query, azure-monitor-querymetrics).
The rule: SDK exceptions never leave this room (`errors.py`), nothing here waits for a long-running operation, and
azure-ai-ml, which takes four seconds to import, is imported when a connection is made and not before.
"""
