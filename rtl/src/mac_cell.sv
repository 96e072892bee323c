// One pair of outputs for one token: four chained DSPs, two products each, and the two accumulators.
//
// Input i of the chain comes i cycles after input 0. The sum of a group stands at the end of the chain Inputs + 2 cycles
// after input 0; the controls `valid`, `first`, `blank` belong to it, `last` comes one cycle later.
module mac_cell #(
    parameter int unsigned INPUTS = bertile_pkg::ArrayInputs
) (
    input  logic                                                    clk,
    input  logic        [INPUTS-1:0][ bertile_pkg::ArrayFieldBits+8:0]   weights,   // low + high * 2^18
    input  logic        [INPUTS-1:0][engine_pkg::OperandBits-1:0]   operands,
    input  logic                                                    valid,     // a sum arrives
    input  logic                                                    first,     // of a pass
    input  logic                                                    blank,     // the pass multiplies nothing
    input  logic                                                    last,      // the accumulators are complete: keep them
    output logic signed [engine_pkg::AccumulatorBits-1:0]           result_low,
    output logic signed [engine_pkg::AccumulatorBits-1:0]           result_high
);

  localparam int unsigned Field = bertile_pkg::ArrayFieldBits;
  localparam int unsigned Bits = engine_pkg::AccumulatorBits;

  if (INPUTS * 128 * 255 >= 1 << (Field - 1)) begin : g_field
    $error("a sum over INPUTS products does not fit the low field of the packed result");
  end

  logic [INPUTS:0][engine_pkg::ProductBits-1:0] chain;
  logic [INPUTS-1:0][engine_pkg::ProductBits-1:0] sums;
  logic signed [engine_pkg::ProductBits-1:0] sum;
  logic signed [Bits-1:0] low, high;

  assign chain[0] = '0;
  for (genvar i = 0; i < INPUTS; i++) begin : g_chain
    dsp_mac #(
        .A_BITS ((bertile_pkg::ArrayFieldBits + 9)),
        .B_BITS (engine_pkg::OperandBits),
        .CASCADE(i != 0)
    ) mac (
        .clk,
        .a(weights[i]),
        .b(operands[i]),
        .p_in(chain[i]),
        .p(sums[i]),
        .p_out(chain[i+1])
    );
  end
  assign sum = sums[INPUTS-1];

  // The low field is signed: what it borrowed from the high field is its sign bit.
  always_ff @(posedge clk) begin
    if (valid) begin
      if (blank) begin
        low  <= '0;
        high <= '0;
      end else begin
        low  <= (first ? '0 : low) + Bits'(signed'(sum[Field-1:0]));
        high <= (first ? '0 : high) + Bits'(signed'(sum[2*Field-1:Field])) + Bits'(sum[Field-1]);
      end
    end
    if (last) begin
      result_low  <= low;
      result_high <= high;
    end
  end

`ifndef SYNTHESIS
  // Two fields of a sum, nothing above but sign.
  always_ff @(posedge clk) begin
    if (valid && !blank) begin
      assert (sum[engine_pkg::ProductBits-1:2*Field-1] == '0 || sum[engine_pkg::ProductBits-1:2*Field-1] == '1)
      else $error("mac_cell: the packed sum left its fields");
    end
  end
`endif

endmodule
