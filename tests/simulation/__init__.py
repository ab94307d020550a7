"""Random histories of a territory over the real protocol, agent and server, with simulated time, network and disks.

One seed decides everything: the machines, what people do, the clocks, the weather on the lines, where the power fails.
The same seed gives the same trace, byte for byte. `python -m tests.simulation --help` runs and replays seeds.

What is real: replicas, the door, the folds, holdings, sessions, transfers, the scheduler, publishing, handing in, the
server's handlers and its responder. What is simulated: the event loop's time (`virtual_time`), the disks (`disk`, over
the memory replica that the contract suite holds to the same rules as the durable one), the lines (`lines`), ciphers
(`quick`). Neighbours (`neighbours`) and sticks (`sticks`, real folders) are worked by the agent's own code.
People, schools, thieves and impostors act through the functions behind the commands (`people`, `school`, `theft`,
`devices`, `signing_in`, `malware`); what the world remembers of them is in `trust`.
What a school is told to do for a while is in `ordering` and `orders`, what the recovery kit alone says in `by_kit`,
keys that are replaced and backups that the kit restores in `rotating`, a laptop that goes home with the work of a class
in `journeys`, a relay in front of thirty machines in `relaying`, a teacher's three laptops in two classes in
`three_laptops`, others' entries that are said again in a wrong space in `replaying`.
`plan` draws a history, `world` lives it, `ledger` remembers what was acknowledged, `invariants` judges the end.
"""
