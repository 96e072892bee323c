// The activation memory in front of the array: the addresses of a cycle's words, the words, and the weights beside them.
module operand_reader #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS    = bertile_pkg::ArrayOutputs,
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords
) (
    input logic clk,
    input logic reset,

    input engine_pkg::cycle_t issued,  // in the cycle of the tile memory's address
    input logic [bertile_pkg::ArrayInputs-1:0][bertile_pkg::PacketIndexBits-1:0] index,  // two cycles later
    input logic [OUTPUTS*32-1:0] weights,
    output engine_pkg::cycle_t operated,
    output logic [bertile_pkg::ArrayInputs-1:0][TOKENS-1:0][7:0] operands,
    output logic [OUTPUTS*32-1:0] operand_weights,

    input logic [engine_pkg::WordStreams-1:0] write_valid,  // as in activation_memory
    input logic [engine_pkg::WordStreams-1:0][engine_pkg::Columns-1:0] write_columns,
    input logic [engine_pkg::WordStreams-1:0][bertile_pkg::CapacityActivationBanks-1:0] write_banks,
    input logic [engine_pkg::WordStreams-1:0][$clog2(BANK_WORDS)-1:0] write_row,
    input logic [engine_pkg::WordStreams-1:0][TOKENS-1:0][7:0] write_data,
    output logic [engine_pkg::WordStreams-1:0] write_grant,
    input logic fetch_valid,
    input logic [15:0] fetch_address,
    output logic fetch_ready,
    output logic [TOKENS-1:0][7:0] fetch_data,
    output logic fetch_data_valid,

    output logic index_error,
    output logic address_error
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned TileLatency = 2;  // of the tile memory
  localparam int unsigned OperandLatency = 1 + 6;  // the address, the activation memory

  engine_pkg::cycle_t addressed;
  logic read_valid, read_outside, fetch_outside;
  logic [Inputs-1:0] index_illegal;
  logic [Inputs-1:0][15:0] read_address;

  delay #(
      .WIDTH ($bits(issued)),
      .CYCLES(TileLatency)
  ) delay_issued (
      .clk,
      .in_data (issued),
      .out_data(addressed)
  );

  always_ff @(posedge clk) begin
    read_valid <= addressed.valid && !addressed.blank;
    for (int i = 0; i < Inputs; i++) begin
      read_address[i] <= addressed.base + (addressed.gather ? 16'(index[i]) : 16'(i));
      index_illegal[i] <= addressed.valid && !addressed.blank && addressed.gather && 16'(index[i]) >= addressed.bound;
    end
    index_error <= index_illegal != '0;
    address_error <= read_outside || fetch_outside;
  end

  activation_memory #(
      .TOKENS(TOKENS),
      .BANK_WORDS(BANK_WORDS)
  ) activations (
      .clk,
      .reset,
      .read_valid,
      .read_address,
      .read_data(operands),
      .read_outside,
      .write_valid,
      .write_columns,
      .write_banks,
      .write_row,
      .write_data,
      .write_grant,
      .fetch_valid,
      .fetch_address,
      .fetch_ready,
      .fetch_outside,
      .fetch_data,
      .fetch_data_valid
  );

  delay #(
      .WIDTH ($bits(addressed)),
      .CYCLES(OperandLatency)
  ) delay_addressed (
      .clk,
      .in_data (addressed),
      .out_data(operated)
  );
  delay #(
      .WIDTH (OUTPUTS * 32),
      .CYCLES(OperandLatency)
  ) delay_weights (
      .clk,
      .in_data (weights),
      .out_data(operand_weights)
  );

endmodule
