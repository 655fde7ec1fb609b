"""EM registration, from the wire to the kernels. Imports go downwards only:

routes, schemas, uploads, representations   HTTP
wire                                        a request's body to a problem, an outcome to an answer's body
engine                                      admission and lanes
worker, register                            jobs and batches of problems
solving                                     a whole problem, from clouds to an answer
starting, motion                            where a pose starts from; how a cloud deforms
climbing, batched                           EM on one problem; on many translations at once
coordinates                                 both clouds in the units that the loops compute in
model                                       the parameters, and the choices that stay the same for all steps
kernel                                      the E-step over neighbours, the M-step, measures of clouds
jit                                         compilation

Beside them: problem (questions and answers), matching, ambiguity, steps (the model with all N x M numbers) and drawing.
"""
