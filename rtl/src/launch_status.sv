// The end of a launch: when all results have left, the status goes the same way, and everything starts anew.
module launch_status (
    input logic clk,
    input logic reset,
    input logic launched,  // a command was taken
    input logic halting,  // `halt` is the next thing to do
    input logic idle,  // nothing is under way in the array
    input engine_pkg::error_events_t events,
    output logic launch_end,  // the cycle behind the status
    output logic status_valid,
    output bertile_pkg::engine_status_t status
);

  localparam int unsigned Settle = 4;  // cycles for an idle that has seen `halting`

  logic [31:0] error;
  logic [63:0] cycles;
  logic [$clog2(Settle+1)-1:0] settled;

  always_ff @(posedge clk) begin
    // The first error of a launch stays.
    if (error == 32'(bertile_pkg::EngineErrorNone)) begin
      if (events.opcode) error <= 32'(bertile_pkg::EngineErrorOpcode);
      else if (events.shape) error <= 32'(bertile_pkg::EngineErrorShape);
      else if (events.index) error <= 32'(bertile_pkg::EngineErrorIndex);
      else if (events.address) error <= 32'(bertile_pkg::EngineErrorAddress);
      else if (events.packet) error <= 32'(bertile_pkg::EngineErrorPacket);
      else if (events.word) error <= 32'(bertile_pkg::EngineErrorWord);
    end
    if (launched) cycles <= cycles + 1'b1;
    if (halting && idle) settled <= settled + 1'b1;
    else settled <= '0;
    launch_end <= status_valid;
    if (reset || launch_end) begin
      error <= 32'(bertile_pkg::EngineErrorNone);
      cycles <= '0;
      settled <= '0;
    end
    if (reset) launch_end <= 1'b0;
  end

  assign status_valid = settled == ($clog2(Settle + 1))'(Settle) && !launch_end;
  always_comb begin
    status = '0;
    status.spec_digest = bertile_pkg::SpecDigest;
    status.error = error;
    status.cycles = cycles;
  end

endmodule
